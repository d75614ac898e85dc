// SPDX-License-Identifier: Apache-2.0
// All that the page does. It reads the document and adds classes; no text is ever made into HTML.
"use strict";
(() => {
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
  const unhide = (element) => {
    for (let at = element; at; at = at.parentElement) if (at instanceof HTMLDetailsElement) at.open = true;
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
    const fold = home.matches(".file") && home.firstElementChild;
    if (fold) fold.open = true;
    if (!found) return home.scrollIntoView();
    if (root.dataset.view === "split") divide(home.closest(".file"));
    const lines = linesOf(home, found[2], Number(found[3]), Number(found[4] ?? found[3]));
    mark(lines);
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
    $("found").textContent = !query ? "" : !matches.length ? "no match" : `${matches.length}${matches.length === most ? "+" : ""} match${matches.length > 1 ? "es" : ""}`;
    $("next").hidden = $("previous").hidden = !matches.length;
  };
  const stepMatch = (step) => {
    if (!matches.length) return;
    match = (match + step + matches.length + (match < 0 && step < 0 ? 1 : 0)) % matches.length;
    const { element } = matches[match].unit;
    unhide(element);
    element.scrollIntoView({ block: "center" });
    paint("now", [rangeOf(matches[match])]);
    $("found").textContent = `${match + 1} of ${matches.length}${matches.length === most ? "+" : ""}`;
  };
  let waiting = 0;
  $("query").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 80); });
  $("search").addEventListener("submit", (event) => event.preventDefault());
  $("query").addEventListener("keydown", (event) => {
    if (event.key === "Enter") { clearTimeout(waiting); if (match < 0) search(); stepMatch(event.shiftKey ? -1 : 1); }
    if (event.key === "Escape") { $("query").value = ""; search(); $("query").blur(); }
  });
  $("next").addEventListener("click", () => stepMatch(1));
  $("previous").addEventListener("click", () => stepMatch(-1));

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
  const folded = () => { const file = current ?? nearestFile(); if (file) file.firstElementChild.open = !file.firstElementChild.open; };
  const keys = {
    j: () => stepFile(1), k: () => stepFile(-1), n: () => stepChange(1), p: () => stepChange(-1),
    x: folded, c: foldAll, t: nextTheme, "?": help,
    s: () => choose(root.dataset.view === "split" ? "unified" : "split"),
    "/": () => { $("query").focus(); $("query").select(); },
    Escape: () => { setMenu(false); mark([]); },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input") || $("help").open) return;
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

  // Paper has no collapsed parts.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("main details:not([open])");
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
})();
