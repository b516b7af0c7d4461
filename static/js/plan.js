// A plan's steps and the changes that they belong to: choosing one shows the others.
(() => {
  "use strict";
  let chosen = "";

  function keysOf(element) {
    return (element.dataset.key || element.dataset.for || "").split(" ").filter(Boolean);
  }

  function show(keys) {
    for (const row of document.querySelectorAll("[data-key], [data-for]")) {
      const together = keysOf(row).some((key) => keys.includes(key));
      row.classList.toggle("is-together", together);
      row.setAttribute("aria-current", String(together));
      if (together) {
        for (let block = row.closest("details"); block; block = block.parentElement?.closest("details")) {
          block.open = true;
        }
      }
    }
  }

  function choose(event) {
    const target = event.target instanceof Element ? event.target : null;
    if (!target || target.closest("summary, a, button, pre")) return;
    const row = target.closest("[data-key], [data-for]");
    if (!row) return;
    const keys = keysOf(row);
    const same = chosen === keys.join(" ");
    chosen = same ? "" : keys.join(" ");
    show(same ? [] : keys);
  }

  document.addEventListener("click", choose);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter") choose(event);
  });
  // A new preview has other changes.
  document.addEventListener("htmx:after:swap", () => { chosen = ""; });
})();
