// SPDX-License-Identifier: Apache-2.0

// Files that a reader has seen are folded. What is kept is a digest of what they show: a file that changes is to be seen
// again, and the same lines elsewhere, in the net diff or another series, are not.
const remembered = 5000;
const boxes = all(".viewed input");
const seen = new Set((kept.get("viewed") ?? "").split(" ").filter(Boolean));
const setViewed = (digest, viewed, fold = true) => {
  for (const box of boxes.filter((one) => one.dataset.digest === digest)) {
    const file = box.closest(".file");
    box.checked = viewed;
    if (fold) foldOf(file).open = !viewed;
    $("tree").querySelector(`[data-for="${CSS.escape(file.id)}"]`)?.classList.toggle("done", viewed);
  }
};
const tellProgress = () => {
  $("progress").textContent = `${boxes.filter((box) => box.checked).length} of ${boxes.length} files viewed`;
};
const view = (digest, viewed) => {
  seen.delete(digest);
  if (viewed) seen.add(digest);
  kept.set("viewed", [...seen].slice(-remembered).join(" "));
  stay(".file, .patch, .part", () => setViewed(digest, viewed), padding());
  tellProgress();
};
for (const box of boxes) {
  box.addEventListener("change", () => view(box.dataset.digest, box.checked));
  if (seen.has(box.dataset.digest)) setViewed(box.dataset.digest, true);
}
tellProgress();
const toggleViewed = () => {
  const box = (current ?? nearestFile())?.querySelector(".viewed input");
  if (box) view(box.dataset.digest, !box.checked);
};
