"""What a figure was measured on, in words."""

import os
import platform
from pathlib import Path

import torch


def hardware() -> str:
    """Processor, number of its cores, torch's threads and the GPU, in one line."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    threads = torch.get_num_threads()
    return f"{processor()}, {os.cpu_count()} cores, {threads} thread{'s' * (threads > 1)}, GPU: {gpu}"


def processor() -> str:
    """Name of the processor; where the system does not tell, its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
