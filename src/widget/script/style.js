// Styles of the element. Pages change them by custom properties (`--live-visitors-…`), by `::part`, and by
// attributes. A constructed style sheet needs no permission from a Content Security Policy.

const STYLE = `
:host {
  --accent: var(--live-visitors-accent, #1a7f37);
  --color: var(--live-visitors-color, #1f2328);
  --background: var(--live-visitors-background, #fff);
  --border: var(--live-visitors-border, #d1d5da);
  --size: var(--live-visitors-avatar-size, 24px);
  display: inline-block;
  max-inline-size: 100%;
  vertical-align: middle;
  font-family: var(--live-visitors-font, inherit);
  font-size: var(--live-visitors-font-size, 14px);
  font-weight: 500;
  line-height: 1.25;
}
@supports (color: light-dark(red, red)) {
  :host {
    --accent: var(--live-visitors-accent, light-dark(#1a7f37, #3fb950));
    --color: var(--live-visitors-color, light-dark(#1f2328, #e6edf3));
    --background: var(--live-visitors-background, light-dark(#fff, #1c2128));
    --border: var(--live-visitors-border, light-dark(#d1d5da, #3d444d));
  }
}
:host([theme="light"]) { color-scheme: light; }
:host([theme="dark"]) { color-scheme: dark; }
:host([hidden]), :host(:not([state])) { display: none !important; }
:host([place="corner"]) {
  position: fixed;
  inset: var(--live-visitors-inset, auto 16px 16px auto);
  z-index: var(--live-visitors-z-index, 1000);
  max-inline-size: calc(100% - 32px);
}
.base {
  display: inline-flex;
  align-items: center;
  gap: .5em;
  box-sizing: border-box;
  max-inline-size: 100%;
  padding: .35em .75em;
  color: var(--color);
  background: var(--background);
  border: 1px solid var(--border);
  border-radius: var(--live-visitors-radius, 2em);
}
:host([place="corner"]) .base { box-shadow: var(--live-visitors-shadow, 0 2px 10px #0003); }
.badge { display: inline-flex; align-items: center; gap: .5em; min-inline-size: 0; }
.dot { position: relative; flex: none; inline-size: .55em; block-size: .55em; }
.dot, .dot::after { border-radius: 50%; background: var(--accent); }
.dot::after { content: ""; position: absolute; inset: 0; opacity: 0; }
.text { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.count { font-variant-numeric: tabular-nums; font-weight: 650; }
:host([compact]) .label { display: none; }
:host([nobody]) .dot { background: none; box-shadow: inset 0 0 0 2px var(--border); }
:host([state="stale"]) .dot { background: none; box-shadow: inset 0 0 0 2px currentColor; }
:host([state="stale"]) .base > * { opacity: .6; }
.avatars { display: flex; margin: 0; padding: 0; list-style: none; }
.avatars:empty { display: none; }
.avatar, .more {
  display: grid;
  place-items: center;
  box-sizing: border-box;
  inline-size: var(--size);
  block-size: var(--size);
  overflow: hidden;
  font-size: calc(var(--size) * .42);
  color: #fff;
  background: #57606a;
  border-radius: 50%;
  box-shadow: 0 0 0 2px var(--background);
}
.hue1 { background: #0969da; }
.hue2 { background: #8250df; }
.hue3 { background: #bf3989; }
.hue4 { background: #bc4c00; }
.hue5 { background: #1a7f37; }
.avatar + *, .more { margin-inline-start: calc(var(--size) * -.2); }
.more { color: var(--color); background: var(--border); }
.avatar img { inline-size: 100%; block-size: 100%; object-fit: cover; }
.announcer { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@media (prefers-reduced-motion: no-preference) {
  .dot.odd::after { animation: odd 1s ease-out; }
  .dot.even::after { animation: even 1s ease-out; }
  .base > * { transition: opacity .3s; }
}
@keyframes odd { from { opacity: .6; } to { opacity: 0; transform: scale(3.2); } }
@keyframes even { from { opacity: .6; } to { opacity: 0; transform: scale(3.2); } }
@media (forced-colors: active) {
  .dot { forced-color-adjust: none; background: CanvasText; }
}
@media print { :host([place="corner"]) { display: none; } }
`;

let sheet = null;
if ("adoptedStyleSheets" in Document.prototype) {
  sheet = new CSSStyleSheet();
  sheet.replaceSync(STYLE);
}
