// Follows /events/ and tells the page what changed, as events on <body>:
//   live:<noun>        any vm, host, job, template … changed
//   live:<noun>:<id>   this one changed
// Parts of the page listen with hx-trigger="live:vm from:body throttle:500ms" and fetch themselves
// anew through their ordinary, permission-checked view. After a gap, and each POLL_SECONDS while
// the stream is away, every event that the page listens to is dispatched.
(() => {
  "use strict";
  const POLL_SECONDS = 10;
  const RETRY_SECONDS = [0.5, 1, 2, 4, 8];
  const QUIET_SECONDS = 35; // the server says “still here” every 15 s
  const KEY = "live-last-event";

  const indicator = document.getElementById("live");
  if (!indicator) return;
  const words = indicator.querySelector(".live-text");

  let last = sessionStorage.getItem(KEY); // closes the gap between two pages
  let tries = 0;
  let stopped = null; // aborts the connection in use
  let awaySince = null;
  let heardAt = 0;
  let signedOut = false;

  function show(state, text) {
    if (indicator.dataset.state !== state || words.textContent !== text) {
      indicator.dataset.state = state;
      words.textContent = text;
    }
  }

  function dispatch(name) {
    document.body.dispatchEvent(new CustomEvent(name));
  }

  function refreshAll() {
    const names = new Set();
    for (const element of document.querySelectorAll("[hx-trigger*='live:']")) {
      for (const name of element.getAttribute("hx-trigger").match(/live:[\w:-]+/g) || []) {
        names.add(name);
      }
    }
    names.forEach(dispatch);
  }

  function tell(subject) {
    if (subject === "resync") return refreshAll();
    const noun = subject.split(":", 1)[0];
    dispatch(`live:${noun}`);
    if (noun !== subject) dispatch(`live:${subject}`);
  }

  function read(block) {
    let name = "";
    for (const line of block.split("\n")) {
      if (line.startsWith("event:")) name = line.slice(6).trim();
      else if (line.startsWith("id:")) last = line.slice(3).trim();
    }
    if (last) sessionStorage.setItem(KEY, last);
    if (name) tell(name);
  }

  async function follow(signal) {
    const headers = { Accept: "text/event-stream" };
    if (last) headers["Last-Event-ID"] = last;
    const response = await fetch(indicator.dataset.stream, { headers, signal, cache: "no-store" });
    if (response.status === 401) {
      signedOut = true;
      throw new Error("signed out");
    }
    if (!response.ok) throw new Error(`status ${response.status}`);
    const wasAway = awaySince !== null;
    tries = 0;
    awaySince = null;
    heardAt = Date.now();
    show("live", "Live");
    if (wasAway || !last) refreshAll();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let waiting = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heardAt = Date.now();
      const blocks = (waiting + value).split("\n\n");
      waiting = blocks.pop();
      blocks.forEach(read);
    }
  }

  async function run() {
    if (stopped || signedOut || document.hidden) return;
    stopped = new AbortController();
    try {
      await follow(stopped.signal);
    } catch (error) {
      // Told by the indicator; the next try is below.
    }
    stopped = null;
    if (document.hidden) return; // hidden on purpose: see below
    awaySince ??= Date.now();
    showAway();
    const seconds = RETRY_SECONDS[Math.min(tries++, RETRY_SECONDS.length - 1)];
    setTimeout(run, seconds * 1000);
  }

  function showAway() {
    if (signedOut) return show("ended", "Signed out: reload to sign in");
    if (awaySince === null) return;
    const seconds = Math.round((Date.now() - awaySince) / 1000);
    if (seconds >= 3) show("stale", `Not live for ${seconds} s: asking every ${POLL_SECONDS} s`);
  }

  setInterval(() => {
    if (stopped && heardAt && Date.now() - heardAt > QUIET_SECONDS * 1000) stopped.abort();
    showAway();
  }, 1000);

  setInterval(() => {
    if (awaySince !== null && !signedOut && !document.hidden) refreshAll();
  }, POLL_SECONDS * 1000);

  // A browser opens six connections to a server: tabs that nobody sees give theirs back.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      heardAt = 0;
      stopped?.abort();
    } else {
      run();
    }
  });
  window.addEventListener("pagehide", () => stopped?.abort());
  // What this reader did is shown at once, not when the event has come round.
  document.addEventListener("console:done", refreshAll);

  show("connecting", "Connecting…");
  run();
})();
