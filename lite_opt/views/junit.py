"""A report as JUnit's XML, which every CI shows: a test case for each check, and one for the
verdict."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from lite_opt.judge.compare import Report
from lite_opt.views.checks import checks
from lite_opt.views.comparison import verdict
from lite_opt.views.text import one_line

__all__ = ["junit"]


def junit(report: Report, name: str) -> str:
    """One test suite called `name`. A check without a limit is a skipped case that has the value.

    The case "verdict" fails where the report does: also where no single check says why, such as
    samples that are missing.
    """
    cases = list(checks(report))
    failed = [check for check in cases if check.passed is False]
    suite = ElementTree.Element(
        "testsuite",
        name=one_line(name),
        tests=str(len(cases) + 1),
        failures=str(len(failed) + (not report)),
        errors="0",
        skipped=str(sum(check.passed is None for check in cases)),
    )
    for check in cases:
        case = _case(suite, name, check.name)
        if check.passed is None:
            ElementTree.SubElement(case, "skipped", message=one_line(f"no limit: {check.found}"))
        elif not check.passed:
            message = one_line(f"{check.found}, limit {check.limit}")
            ElementTree.SubElement(case, "failure", message=message).text = one_line(check.why)
    case = _case(suite, name, "verdict")
    if not report:
        reasons: Sequence[str] = report.failures or report.unjudged
        failure = ElementTree.SubElement(case, "failure", message=one_line(verdict(report)))
        failure.text = "\n".join(map(one_line, reasons))
    ElementTree.indent(suite)
    text = ElementTree.tostring(suite, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _case(suite: ElementTree.Element, of: str, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=one_line(of), name=one_line(name))
