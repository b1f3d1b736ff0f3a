"""Whose fault is each class of failures that the signatures tell apart, and what does it mean?"""

from __future__ import annotations

from monitors.catalogue.signature import Fault
from monitors.incidents import Blame

_TABLE: dict[Blame, dict[str, str]] = {
    Blame.HARDWARE: {
        "gpu_ecc": "memory of the GPU returned wrong bits: whoever prints it owns the bad GPU",
        "gpu_launch_failure": "a kernel, or the GPU under it, failed: the kernel log of the node says which",
    },
    Blame.NETWORK: {
        "efa_undeliverable": "EFA could not deliver to a peer: its process, its card or the path is gone",
        "ib_config": "the InfiniBand path is set up wrongly: GID index, routing or partition",
        "ib_local_protection": "the card may not reach the GPU's memory: GPUDirect, peermem, ACS or IOMMU",
        "ib_retry_exceeded": "InfiniBand gave up resending: the link or the card at one of both ends",
        "net_connect": "a connection to a peer could not be made",
    },
    Blame.HOST: {
        "dataloader_worker_killed": "the node ended a data loader: memory, most often",
        "fd_limit": "the limit of open files is reached",
        "gpu_unavailable": "the node does not offer its GPUs: a lost GPU, or a driver in trouble",
        "host_oom": "the node, or the job's share of it, has no memory left",
        "killed_sigkill": "something ended the process by force: the out-of-memory killer, most often",
        "node_failure": "the scheduler lost the node",
        "port_in_use": "the port was taken by another process",
        "shm_exhausted": "/dev/shm of the node is full",
    },
    Blame.STORAGE: {
        "checkpoint_corrupt": "a saved file is damaged",
        "checkpoint_incomplete": "a checkpoint was never finished",
        "checkpoint_missing_shard": "a file of the checkpoint is not there",
        "checkpoint_unreadable": "a checkpoint could not be read just then; it may be whole",
        "disk_full": "the disk is full",
        "disk_io_error": "the disk, or the way to it, failed",
        "disk_quota": "the quota of the file system is used up",
        "storage_stale": "the file server forgot a file",
    },
    Blame.USER_CODE: {
        "checkpoint_mismatch": "the checkpoint is of another model, optimizer or layout",
        "config_error": "the configuration can not work",
        "cuda_device_assert": "a kernel's own check failed: an index out of range, most often",
        "gpu_oom": "the model did not fit the GPU",
        "import_error": "a module or a library is not installed there",
        "nccl_desync": "ranks call different collectives, or the same with other sizes",
        "permission": "a file or a service may not be used",
        "python_exception": "",
    },
    Blame.DATA: {
        "data_error": "a sample could not be read",
        "dataloader_stall": "no batch came: the storage or the loader stands still",
    },
    Blame.NUMERICS: {
        "numeric_inf": "numbers overflowed",
        "numeric_nan": "numbers became undefined",
    },
    Blame.SCHEDULER: {
        "slurm_cancelled": "the scheduler ended the job, for a person or after a task failed",
        "slurm_time_limit": "the job's time is over",
        "terminated_by_scheduler": "somebody asked the process to end",
    },
    Blame.UNKNOWN: {
        "cleanup_noise": "left over by a process that ended",
        "cuda_error_in_nccl": "CUDA failed inside NCCL: the line before, or the kernel log, says of what",
        "cuda_illegal_access": "a kernel bug, or broken GPU memory",
        "gloo_peer_gone": "gloo says so when the peer's process is gone",
        "gloo_timeout": "a peer never came to the collective",
        "gpu_math_library": "a kernel or the GPU failed inside cuBLAS or cuDNN",
        "hang_victim_blamed": "the launcher names the rank that gave up waiting, not the one it waited for",
        "ib_flush": "InfiniBand throws away what is queued after a failure elsewhere",
        "nccl_bad_size": "a peer sent something else than was expected, or half of it",
        "nccl_peer_closed": "NCCL says so when a rank of the same node is gone",
        "nccl_ras_crash": "NCCL's own monitoring crashed the process: NCCL_RAS_ENABLE=0 switches it off",
        "nccl_remote_gone": "NCCL says so when the other side ended",
        "nccl_timeout": "a peer never came to the collective",
        "none": "",
        "rendezvous_incomplete": "not all nodes came to the meeting",
        "rendezvous_master_gone": "the host of the store is gone",
        "segfault": "native code touched memory that is not its own: a bug in it, or broken memory",
        "store_lost": "the store's host closed the connection",
        "store_timeout": "a peer never wrote its key to the store",
        "torchelastic_cleanup": "the launcher ends the other ranks",
        "watchdog_stuck": "NCCL's watchdog waited for a call that never returned",
    },
}

FAULTS: dict[str, Fault] = {
    name: Fault(blame=blame, meaning=meaning) for blame, rows in _TABLE.items() for name, meaning in rows.items()
}
"""By class; the classes are those of our labelled cases."""
