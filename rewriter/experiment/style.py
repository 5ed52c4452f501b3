"""Style sheet of the HTML reports: light and dark, phone and desktop. Pure."""

STYLE = """
:root{--paper:#fbfaf7;--ink:#1d1d1b;--quiet:#6f6d66;--rule:#dedbd2;--open:#7d7a70;--good:#1c7a4d;--bad:#b23a2a;--band:#1d1d1b1a}
@media(prefers-color-scheme:dark){:root{--paper:#191917;--ink:#eceae4;--quiet:#9b988f;--rule:#3a3935;--open:#a3a096;--good:#5cc08f;--bad:#ec8272;--band:#eceae424}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:860px;padding:40px 24px 80px;background:var(--paper);color:var(--ink)}
body{font:16px/1.55 ui-sans-serif,system-ui,sans-serif}
h1{font-size:15px;font-weight:600;color:var(--quiet);margin:0 0 6px}
.verdict{font-size:30px;line-height:1.25;margin:0 0 8px;text-wrap:balance}
.verdict.helps{color:var(--good)}.verdict.harms{color:var(--bad)}
.about{color:var(--quiet);margin:0 0 32px}
h2{font-size:18px;margin:40px 0 8px;padding-top:16px;border-top:1px solid var(--rule)}
p{margin:0 0 10px;max-width:70ch}
.wide{overflow-x:auto;background:linear-gradient(90deg,var(--paper) 50%,transparent) left/28px 100% no-repeat local,
linear-gradient(270deg,var(--paper) 50%,transparent) right/28px 100% no-repeat local,
linear-gradient(90deg,var(--band),transparent) left/14px 100% no-repeat scroll,
linear-gradient(270deg,var(--band),transparent) right/14px 100% no-repeat scroll}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums;margin:8px 0}
th,td{text-align:left;padding:6px 12px 6px 0;border-bottom:1px solid var(--rule);vertical-align:top}
th{color:var(--quiet);font-weight:500}
td:not(:first-child){white-space:nowrap}td.text{white-space:normal;min-width:12em}td:first-child{min-width:7.5em}
@media(max-width:600px){table{font-size:13px}th,td{padding-right:9px}td:first-child{min-width:5.5em}}
@media(max-width:600px){table.named{display:grid;grid-template-columns:repeat(var(--columns),auto);font-size:12px}
.named tbody,.named tr{display:contents}.named th,.named td{padding-right:6px}.named tr>:first-child:empty{display:none}
.named td:first-child{grid-column:1/-1;border-bottom:0;padding-bottom:0;font-weight:600}}
figure{margin:16px 0}figcaption{color:var(--quiet);font-size:14px}
.broken{color:var(--bad);font-weight:600}
svg{width:100%;height:auto;margin:12px 0;font:12px ui-sans-serif,system-ui,sans-serif;fill:var(--ink)}
svg.trials{max-width:600px;display:block}
svg.trials text{paint-order:stroke;stroke:var(--paper);stroke-width:4px}
@media(max-width:600px){svg.trials{font-size:16px}}
svg.phone{display:none}@media(max-width:600px){svg.desktop{display:none}svg.phone{display:block}}
.quiet{fill:var(--quiet)}.grid{stroke:var(--rule)}.zero{stroke:var(--ink);stroke-dasharray:3 3}
.band{fill:var(--band)}.line{fill:none;stroke:var(--ink);stroke-width:2}
.bar{stroke-width:3;stroke-linecap:round}.bar.open{stroke:var(--open)}.bar.good{stroke:var(--good)}.bar.bad{stroke:var(--bad)}
.dot.open{fill:var(--open)}.dot.good{fill:var(--good)}.dot.bad{fill:var(--bad)}
"""
