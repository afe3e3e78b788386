"""Sources are described without the libraries that read and draw images."""

import subprocess
import sys
from pathlib import Path

from beans_exp.data import SPLITS
from tests.data.builders import noise, save

DESCRIBE = """
import sys
import beans_exp.__main__
from beans_exp.data import source
from beans_exp.schema import DataConfig
import beans_exp.data.tfds

heavy = {"numpy", "PIL", "filelock", "mmap", "ssl", "urllib.request", "importlib.metadata", "tensorflow", "mlflow"}
counts = {"train_images": 3, "validation_images": 3, "test_images": 3}
print(sorted(heavy & set(sys.modules)))
source(DataConfig(name="synthetic", image_size=32, draw_seed=0, **counts))
source(DataConfig(name="folder", data_dir="leaves"))
print(sorted(heavy & set(sys.modules)))
"""


def test_start_up_and_sources_import_no_numpy(tmp_path: Path) -> None:
    for split in SPLITS:
        for name in ("a", "b"):
            save(tmp_path / "leaves" / split / name / "x.png", noise(8, 8, 3))
    ended = subprocess.run([sys.executable, "-c", DESCRIBE], capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "[]\n[]\n"
