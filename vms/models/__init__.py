"""The tables of this room. The domain functions beside them write, views and tasks do not."""

from vms.models.asking import AccessRequest as AccessRequest
from vms.models.asking import AccessRequestQuerySet as AccessRequestQuerySet
from vms.models.asking import managed_by as managed_by
from vms.models.hosts import Drain as Drain
from vms.models.hosts import Quarantine as Quarantine
from vms.models.hosts import QuarantineQuerySet as QuarantineQuerySet
from vms.models.leases import Lease as Lease
from vms.models.leases import LeaseQuerySet as LeaseQuerySet
from vms.models.machines import Placement as Placement
from vms.models.machines import PlacementQuerySet as PlacementQuerySet
from vms.models.machines import Snapshot as Snapshot
from vms.models.machines import VirtualMachine as VirtualMachine
from vms.models.machines import VirtualMachineQuerySet as VirtualMachineQuerySet
from vms.models.pools import WarmPool as WarmPool
from vms.models.queueing import QueueState as QueueState
from vms.models.queueing import Quota as Quota
from vms.models.queueing import QuotaQuerySet as QuotaQuerySet
from vms.models.residue import Receipt as Receipt
from vms.models.residue import Residue as Residue
from vms.models.residue import ResidueQuerySet as ResidueQuerySet
from vms.models.templates import Grant as Grant
from vms.models.templates import GrantQuerySet as GrantQuerySet
from vms.models.templates import LeaseEnd as LeaseEnd
from vms.models.templates import Template as Template
from vms.models.templates import TemplateQuerySet as TemplateQuerySet
