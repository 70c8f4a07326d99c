"""Look at the report's page in a headless browser: that it works by itself, and a picture of it.

python bench/look.py [--browser /usr/bin/chromium] [--out docs/results/page.png]

Needs ``pip install playwright`` and a Chromium. Fails where the page asks the network for anything, reports
an error, lacks a figure or a table, or where the slider over evaluations does not change the samples.
"""

import argparse
from pathlib import Path

from playwright.sync_api import sync_playwright

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "index.html"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--out", default=str(PAGE.with_name("page.png")))
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=arguments.browser, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1180, "height": 900})
        asked, errors = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.goto(PAGE.as_uri())
        found = [check_samples(page), check_figures(page)]
        page.screenshot(path=arguments.out)
        browser.close()
    outside = [url for url in asked if not url.startswith(("file:", "data:"))]
    if outside or errors:
        raise SystemExit(f"the page asked for {outside} and reported {errors}")
    print(*found, arguments.out, sep="\n")


def check_samples(page):
    """Move the slider to each number of evaluations; what is said, or SystemExit where no picture changes."""
    slider, pictures = page.locator("#nfe"), page.locator("img[data-run]")
    count, seen = pictures.count(), {}
    for k in range(int(slider.get_attribute("max")) + 1):
        slider.fill(str(k))
        sources = pictures.evaluate_all("all => all.map(one => one.src)")
        sizes = pictures.evaluate_all(
            "all => Promise.all(all.map(async one => (await one.decode(), one.naturalWidth)))"
        )
        if not all(sizes):
            raise SystemExit(
                f"pictures of {page.locator('#shown').inner_text()} evaluations are empty: {sizes}"
            )
        seen[page.locator("#shown").inner_text()] = tuple(sources)
    if count == 0 or len(set(seen.values())) < len(seen):
        raise SystemExit(f"{count} grids of samples that change with the slider at {list(seen)} evaluations")
    slider.fill("0")
    return f"{count} grids of samples, at {', '.join(seen)} evaluations"


def check_figures(page):
    """Look for figures and tables with a size; what is said."""
    sizes = {}
    for what in ("section svg", "figure svg", "table"):
        boxes = [one.bounding_box() for one in page.locator(what).all()]
        if not boxes or not all(box and box["width"] > 50 and box["height"] > 20 for box in boxes):
            raise SystemExit(f"of {what} there are {boxes}")
        sizes[what] = len(boxes)
    return f"{sizes['section svg']} figures, {sizes['figure svg']} pictures of paths, {sizes['table']} tables"


if __name__ == "__main__":
    main()
