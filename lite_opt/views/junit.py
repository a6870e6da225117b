"""A comparison as JUnit's XML, which every CI shows: a test case for each check, and one for the
verdict."""

from __future__ import annotations

from xml.etree import ElementTree

from lite_opt.views.outcome import Outcome
from lite_opt.views.text import one_line

__all__ = ["junit"]


def junit(outcome: Outcome, name: str) -> str:
    """One test suite called `name`. A check without a limit is a skipped case that has the value.

    The case "verdict" fails where the comparison does: also where no single check says why, such as
    samples that are missing.
    """
    failed = [check for check in outcome.checks if check.passed is False]
    suite = ElementTree.Element(
        "testsuite",
        name=one_line(name),
        tests=str(len(outcome.checks) + 1),
        failures=str(len(failed) + (not outcome.passed)),
        errors="0",
        skipped=str(sum(check.passed is None for check in outcome.checks)),
    )
    for check in outcome.checks:
        case = _case(suite, name, check.name)
        if check.passed is None:
            ElementTree.SubElement(case, "skipped", message=one_line(f"no limit: {check.found}"))
        elif not check.passed:
            message = one_line(f"{check.found}, limit {check.limit}")
            ElementTree.SubElement(case, "failure", message=message).text = one_line(check.why)
    case = _case(suite, name, "verdict")
    if not outcome.passed:
        failure = ElementTree.SubElement(case, "failure", message=one_line(outcome.verdict))
        failure.text = "\n".join(map(one_line, outcome.reasons))
    ElementTree.indent(suite)
    text = ElementTree.tostring(suite, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _case(suite: ElementTree.Element, of: str, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=one_line(of), name=one_line(name))
