// Small helpers of every page. Nothing here is needed to read or to work.
(() => {
  "use strict";
  document.documentElement.classList.add("script");
  const TOAST_SECONDS = 8;
  const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

  // Times: as orchestrator/web/templatetags/console.py writes them.
  function distance(at) {
    const seconds = (Date.now() - at) / 1000;
    const size = Math.abs(seconds);
    if (size >= 30 * 86400) return new Date(at).toISOString().slice(0, 10);
    for (const [unit, length] of UNITS) {
      if (size >= length) {
        const text = `${Math.floor(size / length)} ${unit}`;
        return seconds > 0 ? `${text} ago` : `in ${text}`;
      }
    }
    return "now";
  }

  function tick() {
    for (const element of document.querySelectorAll("time[data-ago]")) {
      const text = distance(Date.parse(element.dateTime));
      if (element.textContent !== text) element.textContent = text;
    }
  }
  setInterval(tick, 1000);

  // Toasts: errors stay until they are closed.
  function watchToasts(region) {
    const seen = new WeakSet();
    function look() {
      for (const note of region.children) {
        if (seen.has(note)) continue;
        seen.add(note);
        if (!note.classList.contains("note-error")) {
          setTimeout(() => note.remove(), TOAST_SECONDS * 1000);
        }
      }
    }
    new MutationObserver(look).observe(region, { childList: true });
    look();
  }

  // The dialog: opens when something was put into it.
  function watchModal(modal) {
    const body = document.getElementById("modal-body");
    let opener = null;
    document.addEventListener("htmx:after:settle", (event) => {
      if (event.target === body && body.childElementCount && !modal.open) {
        opener = document.activeElement;
        modal.showModal();
        const title = body.querySelector(".modal-title");
        if (title) modal.setAttribute("aria-label", title.textContent.trim());
        (body.querySelector("[autofocus], .is-invalid") ||
          body.querySelector("input:not([type=hidden]), select, textarea"))?.focus();
      } else if (event.target === body) {
        body.querySelector(".is-invalid")?.focus();
      }
    });
    modal.addEventListener("close", () => {
      body.replaceChildren();
      if (opener?.isConnected) opener.focus();
    });
    modal.addEventListener("click", (event) => {
      if (event.target === modal) modal.close(); // on the backdrop
    });
    document.addEventListener("console:done", () => modal.open && modal.close());
  }

  document.addEventListener("click", async (event) => {
    const target = event.target instanceof Element ? event.target : null;
    if (!target) return;
    if (target.closest("[data-close]")) target.closest(".note")?.remove();
    if (target.closest("[data-close-modal]")) document.getElementById("modal")?.close();
    for (const open of document.querySelectorAll("details[data-close-outside][open]")) {
      if (!open.contains(target)) open.open = false;
    }
    if (target.matches("[data-pick-all]")) {
      for (const box of document.querySelectorAll("input[form=bulk][name=id]")) {
        box.checked = target.checked;
      }
    }
    const copy = target.closest("[data-copy]");
    if (copy) {
      const source = document.getElementById(copy.dataset.copy);
      const text = source.value ?? source.textContent;
      let copied = true;
      try {
        await navigator.clipboard.writeText(text.trim());
      } catch {
        copied = false; // no permission, or not a secure page: select it instead
        getSelection().selectAllChildren(source);
      }
      const label = copy.querySelector("[data-copy-label]") || copy;
      label.textContent = copied ? "Copied" : "Press Ctrl+C";
      announce(copied ? "Copied to the clipboard." : "Selected. Press Control C to copy.");
    }
    const button = target.closest("[data-theme-switch] button");
    if (button) {
      event.preventDefault();
      setTheme(button);
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const open of document.querySelectorAll("details[data-close-outside][open]")) {
      open.open = false;
      open.querySelector("summary")?.focus();
    }
  });

  function announce(text) {
    const announcer = document.getElementById("announcer");
    if (announcer) announcer.textContent = text;
  }

  // Colours: the same cookie as the form of the switch writes without this script.
  function setTheme(button) {
    const value = button.value;
    const age = value === "system" ? 0 : 31536000;
    const secure = location.protocol === "https:" ? "; secure" : "";
    document.cookie = `theme=${value}; path=/; max-age=${age}; samesite=lax${secure}`;
    if (value === "system") delete document.documentElement.dataset.bsTheme;
    else document.documentElement.dataset.bsTheme = value;
    document.querySelector("meta[name=color-scheme]").content =
      value === "system" ? "light dark" : value;
    for (const other of document.querySelectorAll("[data-theme-switch] button")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
  }

  // What neither arrived nor was refused by the server.
  document.addEventListener("htmx:error", (event) => {
    const request = event.detail.ctx?.request;
    if (!request || request.method === "GET") return;
    const region = document.getElementById("toasts");
    if (!region) return;
    const note = document.createElement("div");
    note.className = "note note-error";
    note.setAttribute("role", "alert");
    note.textContent = "The server did not answer. Look whether it was done before you try again.";
    region.append(note);
  });

  const region = document.getElementById("toasts");
  if (region) watchToasts(region);
  const modal = document.getElementById("modal");
  if (modal) watchModal(modal);
})();
