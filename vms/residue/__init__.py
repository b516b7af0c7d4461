"""What a VM leaves on its host: noted before, looked at after its end, removed at a click."""

from vms.residue.asking import check as check
from vms.residue.asking import fix as fix
