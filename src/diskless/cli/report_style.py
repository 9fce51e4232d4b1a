"""How the page of a load looks, and what moves in it: its style sheet and its script."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f7f7f5; --card: #ffffff; --ink: #1d1f23; --quiet: #686d76; --line: #e3e3df;
  --one: #2f6fd6; --two: #86b0f0; --retried: #e08a1e; --retry: #c8321f; --beside: #8a5cc7;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131519; --card: #1b1e24; --ink: #e8e9ec; --quiet: #979da8; --line: #2d313a;
    --one: #5a97f5; --two: #33598f; --retried: #eda445; --retry: #ff6b57; --beside: #b08df0;
  }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 48px }
h1 { margin: 0; font-size: 24px; line-height: 1.3; overflow-wrap: anywhere; font-weight: 650 }
h2 { margin: 0 0 8px; font-size: 15px; font-weight: 650 }
p { margin: 4px 0 0 }
.quiet, h2 small { color: var(--quiet); font-weight: 400; font-size: 13px }
.failed { margin: 16px 0 0; padding: 10px 14px; border-left: 4px solid var(--retry); background: var(--card);
  overflow-wrap: anywhere }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); gap: 10px; margin: 20px 0 }
.tile, section { background: var(--card); border: 1px solid var(--line); border-radius: 10px }
.tile { padding: 10px 14px }
.tile b { display: block; font-size: 21px; font-weight: 650; font-variant-numeric: tabular-nums; white-space: nowrap }
.tile span { color: var(--quiet); font-size: 13px }
section { padding: 16px; margin: 0 0 12px }
.chart { position: relative; overflow-x: auto }
svg { display: block; width: 100%; min-width: 640px; height: auto }
svg text { fill: var(--quiet); font: 11px system-ui, sans-serif; font-variant-numeric: tabular-nums }
.grid { stroke: var(--line); stroke-width: 1 }
.axis { stroke: var(--quiet); stroke-width: 1; opacity: .5 }
.one { fill: var(--one) } .two { fill: var(--two) } .retried { fill: var(--retried) }
.bar:hover { stroke: var(--ink); stroke-width: 1.2 }
.retry { fill: var(--retry); stroke: var(--card); stroke-width: 1 }
.curve { fill: none; stroke: var(--one); stroke-width: 1.8; stroke-linejoin: round }
.area { fill: var(--one); opacity: .16 }
.beside { fill: var(--beside); opacity: .75 }
.cursor { stroke: var(--ink); stroke-width: 1; opacity: .45; visibility: hidden; pointer-events: none }
.key { display: inline-block; margin-left: 14px; white-space: nowrap }
i { display: inline-block; width: 11px; height: 11px; border-radius: 2px; vertical-align: -1px }
#tip { position: fixed; z-index: 1; padding: 5px 9px; border-radius: 6px; background: var(--ink); color: var(--page);
  font-size: 12.5px; white-space: pre-line; max-width: 420px; overflow-wrap: anywhere; pointer-events: none;
  display: none }
.table { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums }
th { text-align: left; color: var(--quiet); font-weight: 400 }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); white-space: nowrap; vertical-align: top }
td.wide { white-space: normal; overflow-wrap: anywhere; min-width: 220px }
tr:last-child td { border-bottom: 0 }
.number { text-align: right }
"""

# Shows what is under the pointer, and the same moment in all charts. Everything is readable without.
SCRIPT = """
const tip = document.getElementById("tip");
const charts = [...document.querySelectorAll("svg")];
document.addEventListener("pointermove", event => {
  const chart = event.target.closest("svg");
  const told = event.target.dataset && event.target.dataset.tip;
  tip.style.display = told ? "block" : "none";
  if (told) {
    tip.textContent = told;
    const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const below = event.clientY + 18 + tip.offsetHeight < innerHeight;
    tip.style.left = left + "px";
    tip.style.top = (below ? event.clientY + 18 : event.clientY - tip.offsetHeight - 10) + "px";
  }
  const box = chart && chart.getBoundingClientRect();
  const x = chart ? (event.clientX - box.left) / box.width * chart.viewBox.baseVal.width : -1;
  for (const one of charts) {
    const cursor = one.querySelector(".cursor");
    const shown = x >= Number(one.dataset.left) && x <= Number(one.dataset.right);
    cursor.style.visibility = shown ? "visible" : "hidden";
    if (shown) cursor.setAttribute("transform", `translate(${x} 0)`);
  }
});
"""
