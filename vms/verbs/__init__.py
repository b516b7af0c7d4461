"""Verbs on a VM that exists. Each is a job; `HANDLERS` says who does which kind."""

from vms.verbs import snapshots
from vms.verbs.cloning import clone
from vms.verbs.commands import HostScript
from vms.verbs.configuring import ConfigureHandler, configure
from vms.verbs.executing import ExecuteHandler, UploadHandler, execute, execute_from, upload
from vms.verbs.resizing import RenameHandler, ResizeHandler, rename, resize
from vms.verbs.restarting import ResetHandler, RestartHandler, reset, restart
from vms.verbs.states import (
    PauseHandler,
    ResumeHandler,
    StartHandler,
    StopHandler,
    SuspendHandler,
    pause,
    resume,
    start,
    stop,
    suspend,
)
from vms.verbs.templating import CloneToTemplateHandler, clone_to_template
from vms.verbs.writing import WriteHandler, write_from

HANDLERS = {
    "vm.start": StartHandler(),
    "vm.stop": StopHandler(),
    "vm.suspend": SuspendHandler(),
    "vm.resume": ResumeHandler(),
    "vm.pause": PauseHandler(),
    "vm.restart": RestartHandler(),
    "vm.reset": ResetHandler(),
    "vm.resize": ResizeHandler(),
    "vm.rename": RenameHandler(),
    "vm.configure": ConfigureHandler(),
    "vm.clone_to_template": CloneToTemplateHandler(),
    "vm.execute": ExecuteHandler(),
    "vm.upload": UploadHandler(),
    "vm.write": WriteHandler(),
    "vm.take_snapshot": snapshots.TakeHandler(),
    "vm.revert_snapshot": snapshots.RevertHandler(),
    "vm.delete_snapshots": snapshots.DeleteHandler(),
    "vm.list_snapshots": snapshots.ListHandler(),
}

__all__ = [
    "HANDLERS",
    "HostScript",
    "clone",
    "clone_to_template",
    "configure",
    "execute",
    "execute_from",
    "pause",
    "rename",
    "reset",
    "resize",
    "restart",
    "resume",
    "snapshots",
    "start",
    "stop",
    "suspend",
    "upload",
    "write_from",
]
