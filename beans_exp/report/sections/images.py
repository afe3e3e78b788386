"""Test images: those that every model misses, and where models look."""

from beans_exp.errors import BeansExpError
from beans_exp.report.figures.heatmaps import families, where_models_look
from beans_exp.report.figures.images import missed, misses, same_tests, test_images
from beans_exp.report.figures.svg import Picture
from beans_exp.report.findings import Findings
from beans_exp.report.page import Section


def sections(found: Findings) -> list[Section]:
    """Return the section, if models miss images or have saved models; unavailable pictures become problems."""
    alike = same_tests(found.groups) if found.options.images else []
    wrong = misses(alike)
    if wrong is None:
        return []
    pictures: list[Picture] = []
    pixels = None
    try:
        pixels = test_images(alike[0], found.options.data_dir, found.reader)
    except BeansExpError as error:
        found.problems.append(f"test images are not shown: {error}")
    if wrong.wrong.any():
        pictures.append(missed(wrong, pixels))
    seen = families(alike)
    if not seen:
        found.problems.append("no Grad-CAM: no tested run has a saved model")
    elif pixels is not None:
        try:
            pictures.append(where_models_look(found.reader, seen, found.options.data_dir))
        except (BeansExpError, ValueError) as error:
            found.problems.append(f"no Grad-CAM: {error}")
    question = "Which images are hard, and where do the models look?"
    return [Section("images", "Images", question, pictures=pictures)] if pictures else []
