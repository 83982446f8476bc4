"""How the page of the check looks, by day and by night."""

STYLE = """
:root { --paper: #f6f7f9; --card: #fff; --ink: #1b2330; --soft: #667085; --line: #e3e7ee;
  --error: #c62f3b; --warning: #b26a00; --note: #2f6fb3; --fine: #1f8a4c;
  --train: #3b76c4; --val: #e09a2b; --test: #7d5ac0; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --paper: #12161d; --card: #1b212b; --ink: #e7ebf2; --soft: #96a1b3;
  --line: #2d3644; --error: #ff7b84; --warning: #f2b04a; --note: #7db4ee; --fine: #5fce8d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans",
  "Noto Color Emoji", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 20px 60px; }
header { background: var(--card); border: 1px solid var(--line); border-left: 6px solid var(--soft); border-radius: 12px;
  padding: 20px 26px; }
header h1 { margin: 0; font-size: 1.35rem; overflow-wrap: anywhere; }
header p { margin: 2px 0; color: var(--soft); }
header .verdict { font-size: 1.1rem; font-weight: 600; }
header.error { border-left-color: var(--error); } header.error .verdict { color: var(--error); }
header.warning { border-left-color: var(--warning); } header.warning .verdict { color: var(--warning); }
header.fine { border-left-color: var(--fine); } header.fine .verdict { color: var(--fine); }
nav { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 12px; }
.chip { border: 1px solid currentColor; border-radius: 99px; padding: 1px 11px; font-size: 13px; text-decoration: none; }
.chip.error, .error em { color: var(--error); } .chip.warning, .warning em { color: var(--warning); }
.chip.note, .note em { color: var(--note); }
section { margin-top: 22px; }
h2 { font-size: 1.05rem; margin: 0 0 6px; overflow-wrap: anywhere; }
.figures { display: flex; flex-wrap: wrap; gap: 12px; }
.figures div { flex: 1 0 130px; background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 16px; }
.figures b { display: block; font-size: 1.15rem; white-space: nowrap; } .figures span { color: var(--soft); font-size: 13px; }
.tables { display: flex; flex-wrap: wrap; gap: 12px; align-items: flex-start; }
.tables table { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 8px 14px; font-size: 14px; }
.tables caption { text-align: left; color: var(--soft); font-size: 13px; padding-bottom: 3px; }
.tables td + td { text-align: right; padding-left: 18px; font-variant-numeric: tabular-nums; }
.chart, .finding { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px 22px 18px; }
.chart table { width: 100%; border-collapse: collapse; font-size: 14px; }
.chart th { font-weight: 500; text-align: left; width: 1%; min-width: 190px; max-width: 340px; padding: 3px 14px 3px 0; }
.chart th > * { vertical-align: middle; display: inline-block; }
.chart th span { overflow-wrap: anywhere; max-width: 270px; }
.chart th img, .chart th .none { width: 34px; height: 34px; object-fit: cover; border-radius: 6px; margin-right: 9px; background: var(--line); }
.chart td:last-child { text-align: right; white-space: nowrap; width: 1%; padding-left: 12px; font-variant-numeric: tabular-nums; }
.chart td div { display: flex; height: 14px; border-radius: 4px; overflow: hidden; background: var(--paper); }
i { display: inline-block; background: var(--train); } i.val { background: var(--val); } i.test { background: var(--test); }
.legend { margin: 0 0 6px; color: var(--soft); font-size: 13px; } .legend span { margin-right: 14px; }
.legend i { width: 11px; height: 11px; border-radius: 3px; margin-right: 5px; vertical-align: -1px; }
.finding { border-left: 4px solid var(--note); scroll-margin-top: 12px; }
.finding.error { border-left-color: var(--error); } .finding.warning { border-left-color: var(--warning); }
.finding em { font-style: normal; font-size: 12px; font-weight: 700; letter-spacing: .04em; text-transform: uppercase; margin-right: 10px; }
.finding > p { margin: 0 0 10px; color: var(--soft); }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(168px, 1fr)); gap: 12px; }
.groups { display: grid; gap: 12px; }
.case { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 8px; min-width: 0; }
.groups .case { display: flex; flex-wrap: wrap; gap: 8px; align-items: flex-start; }
.groups figure { width: 168px; }
.case > p { margin: 6px 4px 2px; font-size: 12.5px; overflow-wrap: anywhere; color: var(--soft); }
.more { align-self: center; color: var(--soft); font-size: 13px; padding: 0 10px; }
figure { margin: 0; min-width: 0; }
figure img, .broken { display: block; width: 100%; height: 132px; object-fit: contain; border-radius: 7px;
  background: repeating-conic-gradient(#8883 0 25%, transparent 0 50%) 0 / 14px 14px; }
.broken { display: grid; place-items: center; color: var(--soft); font-size: 13px; background: var(--line); }
figcaption { font-size: 12.5px; padding: 6px 4px 2px; line-height: 1.4; }
.name { display: -webkit-box; -webkit-line-clamp: 3; -webkit-box-orient: vertical; overflow: hidden; overflow-wrap: anywhere; }
.label, .set { display: inline-block; border-radius: 5px; padding: 0 7px; margin: 3px 4px 2px 0; background: var(--line); max-width: 100%;
  overflow-wrap: anywhere; }
.set { color: #fff; background: var(--train); } .set.val { background: #b87408; } .set.test { background: var(--test); }
figcaption small { display: block; color: var(--soft); }
ul { margin: 8px 0 0; padding-left: 20px; } li { overflow-wrap: anywhere; font-size: 14px; }
details { margin-top: 10px; } summary { cursor: pointer; color: var(--note); font-size: 14px; }
.fine { font-weight: 600; color: var(--fine); } footer { margin-top: 30px; color: var(--soft); font-size: 13px; overflow-wrap: anywhere; }
"""
