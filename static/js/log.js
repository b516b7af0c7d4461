// Keeps a log (data-follow) at its end while its reader is there; who scrolled up stays where they are.
(() => {
  "use strict";
  const NEAR = 24; // pixels from the end that count as there
  const left = new WeakSet(); // logs whose reader has scrolled up

  function follow() {
    for (const log of document.querySelectorAll(".log[data-follow]")) {
      if (!left.has(log)) log.scrollTop = log.scrollHeight;
    }
  }

  document.addEventListener(
    "scroll",
    (event) => {
      const log = event.target;
      if (!(log instanceof Element) || !log.matches(".log[data-follow]")) return;
      const away = log.scrollHeight - log.scrollTop - log.clientHeight > NEAR;
      away ? left.add(log) : left.delete(log);
    },
    true,
  );
  new MutationObserver(follow).observe(document.body, { childList: true, subtree: true });
  follow();
})();
