"""What a measurement was made on: packseq's build, the processors, the GPU, the libraries.

    python tools/show_machine.py

Only packseq itself has to be there; of what else is missing, it says so.
"""

import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version

import packseq

COMMANDS = [["nproc"], ["lscpu"], ["nvidia-smi"]]
LIBRARIES = [
    *("numpy", "scipy", "Cython", "setuptools", "pytest", "hypothesis", "threadpoolctl"),
    *("onnxruntime", "torch"),
]


def output_of(command):
    if not shutil.which(command[0]):
        return "missing"
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.stdout.decode(errors="replace").strip()


def version_of(library):
    try:
        return version(library)
    except PackageNotFoundError:
        return "missing"


def print_devices():
    import torch

    print(f"  CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
    for number in range(torch.cuda.device_count()):
        print(f"  {torch.cuda.get_device_properties(number)}")


def main():
    packseq.show_config()
    for command in COMMANDS:
        print(f"\n{command[0]}\n{output_of(command)}", flush=True)
    print("\nlibraries")
    for library in LIBRARIES:
        print(f"  {library} {version_of(library)}", flush=True)
    if version_of("torch") != "missing":
        print_devices()


if __name__ == "__main__":
    main()
