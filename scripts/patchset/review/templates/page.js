// SPDX-License-Identifier: Apache-2.0
// All that the page does, with search.js, viewed.js and start.js after it, as one script. It reads the document and adds
// classes; no text is ever made into HTML.
const root = document.documentElement;
const $ = (id) => document.getElementById(id);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const files = all(".file");
const narrow = matchMedia("(max-width: 900px)");
const line = 20; // px: the height of one line, as page.css has it

// What a reader chose, kept where the browser lets a file keep anything.
const kept = {
  get(key) { try { return localStorage.getItem(`patchset-review-${key}`); } catch { return null; } },
  set(key, value) { try { localStorage.setItem(`patchset-review-${key}`, value); } catch { /* not kept */ } },
};

// Pieces of code far from the window are not laid out; how high they will be is known.
const pieces = all(".piece");
for (const piece of pieces) piece.style.containIntrinsicHeight = `auto ${piece.dataset.n * line}px`;

// Theme.
const themes = ["auto", "light", "dark"];
const setTheme = (theme) => {
  root.dataset.theme = theme;
  $("theme").textContent = `Theme: ${theme}`;
  kept.set("theme", theme);
};
const nextTheme = () => setTheme(themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length]);
setTheme(themes.find((theme) => theme === kept.get("theme")) ?? "auto");
$("theme").addEventListener("click", nextTheme);

// Split or unified. The page holds the unified lines; a file gets its second column when it comes near the window.
const divided = new WeakSet();
const divide = (file) => {
  if (divided.has(file)) return;
  divided.add(file);
  for (const context of all(".l:not(.a, .d, .o)", file)) {
    const copy = context.firstElementChild.cloneNode(true);
    copy.setAttribute("aria-hidden", "true");
    context.append(copy);
  }
  for (const moved of all(".l[data-y]", file)) moved.style.gridRow = moved.dataset.y;
};
const near = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting && root.dataset.view === "split") divide(entry.target);
}, { rootMargin: "1500px 0px" });
let wanted = kept.get("view") ?? (innerWidth >= 1400 ? "split" : "unified");
const setView = () => {
  root.dataset.view = narrow.matches ? "unified" : wanted;
  for (const button of all("[data-view]", document.body)) {
    button.setAttribute("aria-pressed", String(button.dataset.view === root.dataset.view));
  }
  near.disconnect();
  if (root.dataset.view === "split") files.forEach((file) => near.observe(file));
};
const choose = (view) => {
  stay(".l, .at, .file, .patch, .part", () => {
    wanted = view;
    kept.set("view", view);
    setView();
    if (root.dataset.view === "split") files.filter(isNear).forEach(divide);
  });
};
for (const button of all(".views button")) button.addEventListener("click", () => choose(button.dataset.view));
narrow.addEventListener("change", setView);

// Does something that moves what is on the page, and leaves the reader at the same place of it.
const padding = () => parseFloat(getComputedStyle(root).scrollPaddingTop);
const isNear = (element) => {
  const box = element.getBoundingClientRect();
  return box.bottom > 0 && box.top < innerHeight;
};
const stay = (kinds, act, highest = -Infinity) => {
  const main = $("main").getBoundingClientRect();
  const underHeader = padding() + 44;
  const place = document.elementFromPoint(main.right - main.width / 3, underHeader)?.closest(kinds);
  const before = place?.getBoundingClientRect().top;
  act();
  if (place) scrollBy(0, place.getBoundingClientRect().top - Math.max(before, highest));
};

// Collapse.
const folds = all(".file > details");
const foldAll = () => {
  const open = folds.some((fold) => fold.open);
  stay(".file, .patch, .part", () => { for (const fold of folds) fold.open = !open; }, padding());
  $("fold").textContent = open ? "Open all" : "Collapse all";
};
$("fold").addEventListener("click", foldAll);

// Addresses: #file, #file:R12, #file:L3-9.
const foldOf = (file) => file.querySelector(":scope > details");
// Opens what an element lies in; what was closed before.
const unhide = (element) => {
  const closed = [];
  for (let at = element; at; at = at.parentElement) if (at instanceof HTMLDetailsElement && !at.open) closed.push(at);
  for (const fold of closed) fold.open = true;
  return closed;
};
let marked = [];
const mark = (lines) => {
  marked.forEach((one) => one.classList.remove("on"));
  marked = lines;
  marked.forEach((one) => one.classList.add("on"));
};
const linesOf = (home, side, first, last) => {
  const attribute = side === "L" ? "l" : "r";
  return all(`.l[data-${attribute}]`, home).filter((one) => {
    const number = Number(one.dataset[attribute]);
    return one.closest("[id]") === home && number >= first && number <= last;
  });
};
const go = () => {
  let name;
  try { name = decodeURIComponent(location.hash.slice(1)); } catch { return; }
  const found = /^(.*):([LR])(\d+)(?:-(\d+))?$/.exec(name);
  const home = $(found ? found[1] : name);
  if (!home) return;
  unhide(home);
  root.classList.remove("menu");
  if (home.matches(".file")) foldOf(home).open = true;
  if (!found) return home.scrollIntoView();
  if (root.dataset.view === "split") divide(home.closest(".file"));
  const lines = linesOf(home, found[2], Number(found[3]), Number(found[4] ?? found[3]));
  mark(lines);
  lines.forEach(unhide); // they may lie in context that is folded
  (lines[0] ?? home).scrollIntoView({ block: lines.length ? "center" : "start" });
};
const address = (one, side) => `${one.closest("[id]").id}:${side}${one.dataset[side === "L" ? "l" : "r"]}`;
const setHash = (name) => history.replaceState(null, "", `#${encodeURI(name)}`);
let anchor = null;
document.addEventListener("click", (event) => {
  const one = event.target;
  if (!one.matches?.(".l")) return; // numbers are drawn by the line itself; code is a child of it
  const box = one.getBoundingClientRect();
  const left = event.clientX - box.left < (root.dataset.view === "split" ? box.width / 2 : box.width / 4 / 2);
  const side = one.matches(".d") || (left && one.dataset.l && one.dataset.r && root.dataset.view === "split") ? "L" : "R";
  const key = side === "L" ? "l" : "r";
  const home = one.closest("[id]");
  if (event.shiftKey && anchor?.side === side && anchor.home === home) {
    const [first, last] = [anchor.number, Number(one.dataset[key])].sort((a, b) => a - b);
    mark(linesOf(home, side, first, last));
    setHash(`${home.id}:${side}${first}-${last}`);
    getSelection().removeAllRanges();
    return;
  }
  anchor = { home, side, number: Number(one.dataset[key]) };
  mark([one]);
  setHash(address(one, side));
});
addEventListener("hashchange", go);

// Files and changes, one after the other.
const nearestFile = () => files.findLast((file) => file.getBoundingClientRect().top <= padding() + 16);
let current = null;
const setCurrent = (file) => {
  current?.classList.remove("current");
  current = file;
  current?.classList.add("current");
};
const stepFile = (step) => {
  const tops = files.map((file) => Math.round(file.getBoundingClientRect().top - padding()));
  const next = step > 0 ? files.find((_, at) => tops[at] > 1) : files.findLast((_, at) => tops[at] < -1);
  if (!next) return;
  setCurrent(next);
  next.scrollIntoView();
  next.querySelector("summary").focus({ preventScroll: true });
  setHash(next.id);
};
const stepPatch = (step) => {
  const tops = all(".patch").map((one) => [one, Math.round(one.getBoundingClientRect().top - padding())]);
  const [next] = (step > 0 ? tops.find(([, at]) => at > 1) : tops.findLast(([, at]) => at < -1)) ?? [];
  if (!next) return;
  setCurrent(null);
  next.scrollIntoView();
  setHash(next.id);
};
const changes = all(".ch");
let change = -1;
const stepChange = (step) => {
  if (!changes.length) return;
  const visible = change >= 0 && changes[change].firstElementChild.matches(".on");
  if (!visible) {
    const piece = pieces.find((one) => one.getBoundingClientRect().bottom > padding());
    const from = changes.findIndex((one) => piece && piece.compareDocumentPosition(one) & Node.DOCUMENT_POSITION_FOLLOWING);
    change = (from < 0 ? changes.length : from) - (step > 0 ? 1 : 0);
  }
  const to = change + step;
  if (to < 0 || to >= changes.length) return;
  change = to;
  const block = changes[change];
  const file = block.closest(".file");
  unhide(block);
  if (root.dataset.view === "split") divide(file);
  setCurrent(file);
  mark([...block.children]);
  block.firstElementChild.scrollIntoView({ block: "center" });
  const first = block.firstElementChild;
  setHash(address(first, first.matches(".d") ? "L" : "R"));
};
