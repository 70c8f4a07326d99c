"""The report: runs what is not yet run of its table, and makes tables, figures and a page of what is.

python bench/science.py run [--minutes M] [--only WORD]     # goes on where the last sitting ended
python bench/science.py list
python bench/science.py try                                 # every way of making a run once, at few steps
python bench/science.py report                              # docs/results and the README's part, of the JSON
"""

import argparse
from pathlib import Path

from report.figures import figures
from report.page import page
from report.table import all_jobs
from report.tables import all_tables, image_table, read_results

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "science"
DOCS = ROOT / "docs" / "results"
BEGIN, END = "<!-- results: made by bench/science.py report -->", "<!-- end of the results -->"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=("run", "try", "list", "report"))
    parser.add_argument("--minutes", type=float, help="run: begin nothing new after so many minutes")
    parser.add_argument("--only", default="", help="run, list: jobs with this word in their names")
    parser.add_argument("--pause", help="run: wait while this file exists")
    parser.add_argument("--runs", default="runs/science", help="where networks and checkpoints are kept")
    arguments = parser.parse_args()
    chosen = [job for job in all_jobs() if arguments.only in job.name]
    if arguments.command in ("run", "try"):
        import torch  # loads slowly, and a report can do without
        from report.jobs import Sitting, run_jobs, try_jobs

        torch.set_num_threads(1)
        if arguments.command == "try":
            done = try_jobs(chosen)
        else:
            sitting = Sitting(RESULTS, arguments.runs, arguments.minutes, arguments.pause)
            done = run_jobs(sitting, chosen)
        print(f"{done} jobs done")
    elif arguments.command == "list":
        for job in chosen:
            print(f"{'done' if (RESULTS / f'{job.name}.json').exists() else 'not run':8} {job.name}")
    else:
        for path in write_report():
            print(path)


def report_files():
    """Return {path: text} of all that is made of the results, the README among it."""
    results = read_results(RESULTS)
    texts = {DOCS / "README.md": all_tables(results), DOCS / "index.html": page(results)}
    texts |= {DOCS / f"{name}.svg": svg for name, svg in figures(results).items()}
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    part = image_table(results, "couplings")
    texts[readme] = f"{before}{BEGIN}\n{part}\n{END}{after}"
    return texts


def write_report():
    """Write all that is made of the results; returns the paths."""
    DOCS.mkdir(parents=True, exist_ok=True)
    texts = report_files()
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


if __name__ == "__main__":
    main()
