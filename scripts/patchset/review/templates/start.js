// SPDX-License-Identifier: Apache-2.0
// Keys, contents, help.
const help = () => $("help").showModal();
$("keys").addEventListener("click", help);
const setMenu = (open) => {
  root.classList.toggle("menu", open);
  $("menu").setAttribute("aria-expanded", String(open));
};
$("menu").addEventListener("click", () => setMenu(!root.classList.contains("menu")));
$("tree").addEventListener("click", (event) => {
  const patch = event.target.closest("summary")?.closest("[data-patch]");
  if (patch && !patch.firstElementChild.open) location.hash = `#${encodeURI(patch.dataset.patch)}`;
  if (event.target.closest("a")) setMenu(false);
});
const folded = () => { const fold = (current ?? nearestFile())?.querySelector(":scope > details"); if (fold) fold.open = !fold.open; };
const keys = {
  j: () => stepFile(1), k: () => stepFile(-1), n: () => stepChange(1), p: () => stepChange(-1),
  J: () => stepPatch(1), K: () => stepPatch(-1), v: toggleViewed, x: folded, c: foldAll, t: nextTheme, "?": help,
  s: () => choose(root.dataset.view === "split" ? "unified" : "split"),
  "/": () => { $("query").focus(); $("query").select(); },
  Escape: () => { setMenu(false); mark([]); },
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("#query") || $("help").open) return;
  const action = keys[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

// The contents follow the reader.
const links = new Map(all("#tree li > a, #tree h2 > a").map((link) => [decodeURIComponent(link.hash.slice(1)), link]));
const places = [...links.keys()].map((id) => $(id)).filter(Boolean);
let here = [];
const follow = () => {
  const place = places.findLast((one) => one.getBoundingClientRect().top <= padding() + 16);
  const link = links.get(place?.id);
  const now = link ? [link, ...all("summary", link.closest("[data-patch]") ?? link)] : [];
  if (now[0] === here[0]) return;
  here.forEach((one) => one.classList.remove("here"));
  here = now;
  here.forEach((one) => one.classList.add("here"));
};
let following = 0;
addEventListener("scroll", () => { following ||= requestAnimationFrame(() => { following = 0; follow(); }); }, { passive: true });

// Paper has no collapsed parts, but for what it would say twice (the net diff) or what the patches leave alone.
let closed = [];
addEventListener("beforeprint", () => {
  closed = all("main details:not([open], .unfold, #net details)");
  closed.forEach((fold) => { fold.open = true; });
  root.dataset.view = "unified";
});
addEventListener("afterprint", () => {
  closed.forEach((fold) => { fold.open = false; });
  setView();
});

setView();
if (location.hash) history.scrollRestoration = "manual"; // a reload leads to the address, not to where one was
go();
