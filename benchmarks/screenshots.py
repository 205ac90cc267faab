"""Screenshots of a study's page, to be looked at: light, dark, phone width, and as it prints.

python benchmarks/screenshots.py results/smoke/report.html screenshots/
"""

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

VIEWS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1200, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1200, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--section", help="id of the one element to take, such as table1, instead of the whole page")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("no Chromium here: apt-get install chromium")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, settings in VIEWS.items():
            page = browser.new_page(**settings)
            page.goto(arguments.page.resolve().as_uri())
            page.wait_for_selector("html[data-drawn]", timeout=600_000)
            path = arguments.out / f"{name}.png"
            if arguments.section:
                page.locator(f"#{arguments.section}").screenshot(path=path)
            else:
                page.screenshot(path=path, full_page=True)
            if name == "light":
                page.pdf(path=arguments.out / "print.pdf", format="A4")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
