// SPDX-License-Identifier: Apache-2.0
// Search: matches are painted over the text, so that the document stays as it is.
const units = all(".l > code, main h1, main h3, .says p, .says dd, .file-name, .file summary .path, .list td, .map th, .defects th, .seen")
  .map((element) => ({ element, text: null, home: element.closest(".file") ?? element.closest("article[id], section[id]") }));
const paint = (name, ranges) => { if (globalThis.Highlight) CSS.highlights.set(name, new Highlight(...ranges)); };
const rangeOf = ({ unit, start, size }) => {
  const range = document.createRange();
  const walk = document.createTreeWalker(unit.element, NodeFilter.SHOW_TEXT);
  let at = 0;
  let begun = false;
  for (let node = walk.nextNode(); node; at += node.length, node = walk.nextNode()) {
    if (!begun && start < at + node.length) { range.setStart(node, start - at); begun = true; }
    if (begun && start + size <= at + node.length) { range.setEnd(node, start + size - at); break; }
  }
  return range;
};
const most = 2000; // matches that are painted and counted
let matches = [];
let match = -1;
let origin = null; // where the reader was when the search began
let opened = []; // what has been opened for a match, while its word was being typed
const place = () => {
  const main = $("main").getBoundingClientRect();
  const at = document.elementFromPoint(main.right - main.width / 3, padding() + 44) ?? $("main");
  return { at, top: at.getBoundingClientRect().top };
};
const show = (to) => {
  match = to;
  const { element } = matches[match].unit;
  opened = unhide(element);
  element.scrollIntoView({ block: "center" });
  paint("now", [rangeOf(matches[match])]);
  $("found").textContent = `${match + 1} of ${matches.length}${matches.length === most ? "+" : ""}`;
};
const search = () => {
  const query = $("query").value.trim().toLowerCase();
  matches = [];
  match = -1;
  for (const unit of query ? units : []) {
    unit.text ??= unit.element.textContent.toLowerCase();
    for (let at = unit.text.indexOf(query); at >= 0 && matches.length < most; at = unit.text.indexOf(query, at + query.length)) {
      matches.push({ unit, start: at, size: query.length });
    }
  }
  root.classList.toggle("searching", Boolean(query));
  const counts = new Map();
  for (const { unit } of matches) if (unit.home) counts.set(unit.home.id, (counts.get(unit.home.id) ?? 0) + 1);
  for (const link of all("#tree [data-for]")) {
    const count = counts.get(link.dataset.for) ?? 0;
    link.querySelector(".hits").textContent = count || "";
    link.parentElement.classList.toggle("missing", Boolean(query) && !count);
  }
  for (const group of all("#tree .patches > li")) {
    const hits = all("[data-for] .hits", group).reduce((sum, one) => sum + Number(one.textContent), 0);
    group.querySelector("summary .hits").textContent = hits || "";
    group.classList.toggle("missing", Boolean(query) && !hits);
  }
  paint("found", matches.map(rangeOf));
  paint("now", []);
  $("found").textContent = query && !matches.length ? "no match" : "";
  $("next").hidden = $("previous").hidden = !matches.length;
};
// To the first match from where the reader was; without one, back to there.
const typed = () => {
  origin ??= place();
  search();
  opened.forEach((fold) => { fold.open = false; });
  opened = [];
  const behind = ({ unit }) => {
    const side = origin.at.compareDocumentPosition(unit.element);
    return !(side & Node.DOCUMENT_POSITION_PRECEDING) || Boolean(side & Node.DOCUMENT_POSITION_CONTAINS);
  };
  if (matches.length) show(Math.max(0, matches.findIndex(behind)));
  else scrollBy(0, origin.at.getBoundingClientRect().top - origin.top);
  if (!$("query").value) origin = null;
};
const stepMatch = (step) => {
  if (!matches.length) return;
  show((match + step + matches.length + (match < 0 && step < 0 ? 1 : 0)) % matches.length);
  opened = []; // a reader who goes on has seen it
  origin = null;
};
let waiting = 0;
$("query").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(typed, 80); });
$("search").addEventListener("submit", (event) => event.preventDefault());
$("query").addEventListener("keydown", (event) => {
  if (event.key === "Enter") { clearTimeout(waiting); if (match < 0) search(); stepMatch(event.shiftKey ? -1 : 1); }
  if (event.key === "Escape") { clearTimeout(waiting); $("query").value = ""; search(); opened = []; origin = null; $("query").blur(); }
});
$("next").addEventListener("click", () => stepMatch(1));
$("previous").addEventListener("click", () => stepMatch(-1));
