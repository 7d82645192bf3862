"""Tables of a study that leaves each site out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from medtl.evaluation.intervals import FEWEST_FOR_INTERVAL
from medtl.evaluation.tables import LABELS, gain_cell, output_word, p_cell, titled
from medtl.runtime.table import Table
from medtl.study.plan import StudyPlan
from medtl.study.sites.division import SiteSplit
from medtl.study.sites.results import SiteFindings, SiteRow
from medtl.study.sites.selectors import SELECTORS


def site_tables(found: SiteFindings, *, synthetic: bool) -> list[Table]:
    """Per site; then over all sites: gains, selectors, and what the shift tells of the loss."""
    tables = [_site_table(found, synthetic), _gain_table(found, synthetic)]
    if any(found.regrets.values()):
        tables.append(_selector_table(found, synthetic))
    return [*tables, _shift_table(found, synthetic)]


def _site_table(found: SiteFindings, synthetic: bool) -> Table:
    several = len(found.correlations) > 1
    chosen = [name for name in SELECTORS if any(name in row.picks for row in found.rows)]
    rows = []
    for row in found.rows:
        shift = row.shift
        rows.append(
            (
                *((row.output,) if several else ()),
                row.site,
                str(row.target.n),
                "" if shift is None or shift.value is None else f"{shift.value:.3g}",
                p_cell(shift.p if shift else None),
                "" if row.source is None else f"{row.source.mean:.2f}",
                f"{row.target.mean:.2f}",
                "" if row.loss is None else _bare(gain_cell(row.loss.to_json())),
                *(
                    _bare(gain_cell(row.gains[arm].to_json())) if arm in row.gains else "left out"
                    for arm in found.arms
                ),
                *(_pick_cell(row, name) for name in chosen),
            )
        )
    columns = (
        *((output_word(found.metric),) if several else ()),
        "site",
        "n",
        "shift",
        "p",
        "at the source",
        "at the site",
        "loss",
        *(f"gain {arm}" for arm in found.arms),
        *(f"by {name}" for name in chosen),
    )
    title = f"Each site left out: {LABELS[found.metric]}"
    return Table(titled(title, synthetic), columns, tuple(rows), tuple(_site_notes(found)))


def _bare(cell: str) -> str:
    return cell.removesuffix(", no interval")


def _pick_cell(row: SiteRow, selector: str) -> str:
    """The arms that were picked, and the regret: ``dann 2, zero-shot 1: 0.012``."""
    if selector not in row.picks:
        return ""
    counts = Counter(row.picks[selector])
    if len(counts) == 1:
        named = next(iter(counts))
    else:
        named = ", ".join(f"{arm} {count}" for arm, count in counts.most_common())
    return f"{named}: {row.regrets[selector]:.3f}"


def _site_notes(found: SiteFindings) -> Iterator[str]:
    yield (
        "n: test patients of the site. shift: of appearance between the other sites and this one, "
        "unbiased MMD squared, which may be below 0, with p by permutation of patients. loss: the "
        "source's network on held-out patients of the source, less the same network on the site."
    )
    yield (
        "gain: the arm less the source's network as it is (zero-shot), on the same patients. "
        "by: the arm that a selector picks without labels of the site, with its regret: how much "
        "better the best arm is on the test patients, mean over seeds. im: information "
        "maximisation, snd: soft neighbourhood density."
    )
    if any(
        row.target.n >= FEWEST_FOR_INTERVAL and effect.low is None
        for row in found.rows
        for effect in row.gains.values()
    ):
        yield "A gain without interval is the same in all patients of the site."
    unused = [name for name in SELECTORS if not any(name in row.picks for row in found.rows)]
    if unused:
        yield f"Not used to choose, as there are too few patients for it: {', '.join(unused)}."
    few = list(dict.fromkeys(r.site for r in found.rows if r.target.n < FEWEST_FOR_INTERVAL))
    if few:
        yield (
            f"No interval for {', '.join(few)}: fewer than {FEWEST_FOR_INTERVAL} test patients do "
            "not tell how patients of the site vary."
        )
    alone = dict.fromkeys(r.site for r in found.rows if len(r.gains) < len(found.arms))
    if alone:
        yield (
            f"left out ({', '.join(alone)}): the arm needs unlabelled images of other patients of "
            "the site, and there are none, or its run failed."
        )
    untested = {row.site: row.shift.note for row in found.rows if row.shift and row.shift.p is None}
    for site, why in untested.items():
        yield f"No shift test for {site}: {why}."


def _gain_table(found: SiteFindings, synthetic: bool) -> Table:
    several = len(found.correlations) > 1
    rows = tuple(
        (
            *((each.output,) if several else ()),
            each.arm,
            str(each.effect.n),
            str(each.effect.runs),
            gain_cell(each.effect.to_json()),
            p_cell(each.judged.p_holm),
            each.judged.verdict,
        )
        for each in found.gains
    )
    lead = (output_word(found.metric),) if several else ()
    columns = (*lead, "arm", "n", "runs", "gain", "p", "verdict")
    methods = dict.fromkeys(each.effect.method for each in found.gains if each.effect.method)
    notes = [
        "Over the test patients of all sites: mean difference within patients [95% interval]. p is "
        "adjusted by Holm over the arms. Sites share most of their source patients, so that the "
        "intervals may be somewhat too narrow.",
        *(f"Interval: {method}; a fold is a site." for method in methods),
    ]
    if found.rows and max(row.target.n for row in found.rows) < FEWEST_FOR_INTERVAL:
        notes.append(
            f"No site has {FEWEST_FOR_INTERVAL} test patients, so how patients of a site vary is "
            "not known: there is no interval and no verdict."
        )
    title = f"Does adaptation help? Gain in {LABELS[found.metric]} over zero-shot"
    return Table(titled(title, synthetic), columns, rows, tuple(notes))


def _selector_table(found: SiteFindings, synthetic: bool) -> Table:
    several = len(found.correlations) > 1
    rows = []
    for output, every in found.regrets.items():
        for each in every:
            worst = max(each.by_site, key=lambda site: each.by_site[site])
            rows.append(
                (
                    *((output,) if several else ()),
                    each.selector,
                    str(each.runs),
                    f"{each.mean:.3f}",
                    f"{each.by_site[worst]:.3f} ({worst})",
                )
            )
    lead = (output_word(found.metric),) if several else ()
    columns = (*lead, "chosen by", "runs", "mean regret", "worst site")
    notes = (
        "Regret: how much better the best arm is on the test patients than the arm chosen; mean "
        "over sites and seeds. A selector is worth its trouble if it regrets less than taking the "
        "source's network always. With few test patients the best arm is so partly by luck: then "
        "all regrets are too large, and small differences between rows mean nothing.",
    )
    return Table(titled("Choosing without labels", synthetic), columns, tuple(rows), notes)


def _shift_table(found: SiteFindings, synthetic: bool) -> Table:
    rows = []
    for output, each in found.correlations.items():
        limits = "none" if each.low is None else f"{each.low:+.2f} to {each.high:+.2f}"
        value = "undefined" if each.spearman is None else f"{each.spearman:+.2f}"
        rows.append((output, str(each.sites), value, limits, p_cell(each.p)))
    columns = (output_word(found.metric), "sites", "Spearman", "95% interval", "p")
    notes = (
        f"One-sided p by permutation of sites. No interval below {FEWEST_FOR_INTERVAL} sites. The "
        "sites share their source patients, so they are not independent.",
    )
    return Table(
        titled("Do sites with a larger shift lose more?", synthetic), columns, tuple(rows), notes
    )


def division_table(plan: StudyPlan) -> Table:
    """How many patients train, validate and test when each site is left out."""
    rows = []
    for site, split in zip(plan.sites, plan.splits, strict=True):
        own = frozenset(case.patient for case in plan.cases if case.site == site)
        each = SiteSplit(site, split, own)
        rows.append(_division(each))
    columns = ("site", "patients", "tested", "unlabelled", "source train", "val", "test")
    notes = (
        "unlabelled: patients of the site whose images the arms may see; no arm sees a label of "
        "the site, nor an image of a test patient",
    )
    return Table(titled("Sites", plan.synthetic), columns, tuple(rows), notes)


def _division(each: SiteSplit) -> tuple[str, ...]:
    split = each.split
    counts = (
        len(each.patients),
        len(each.tested),
        len(each.unlabelled),
        len(split.train) - len(each.unlabelled),
        len(split.val),
        len(split.test) - len(each.tested),
    )
    return (each.site, *map(str, counts))
