// What makes pages live. Everything works without it: the same pages, loaded again by hand.
"use strict";
(() => {
  // part asks the console for a page, and returns its element of that id; null when there is none, as on
  // the login page that answers when the session ended.
  const part = async (id, url, init) => {
    const answer = await fetch(url, init);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    return page.getElementById(id);
  };

  // An element with data-live="SECONDS" is brought up to date that often, while somebody looks and until
  // they stop it.
  const live = document.querySelector("[data-live]");
  const stop = document.getElementById("live");
  if (live && stop) {
    let running = true;
    stop.hidden = false;
    stop.addEventListener("click", () => {
      running = !running;
      stop.setAttribute("aria-pressed", String(running));
    });
    const again = async () => {
      const old = document.getElementById(live.id);
      if (running && !document.hidden && !old.contains(document.activeElement)) {
        try {
          const now = await part(live.id, location.href);
          if (now) old.replaceWith(now);
        } catch {
          // The TAM does not answer now; the next time it may.
        }
      }
      setTimeout(again, 1000 * Number(live.dataset.live));
    };
    setTimeout(again, 1000 * Number(live.dataset.live));
  }

  // A form with data-preview="ID" shows, while somebody types, what its preview button would.
  const form = document.querySelector("form[data-preview]");
  if (form) {
    const button = form.querySelector("button[name=preview]");
    let timer = 0, newest = 0;
    form.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(async () => {
        const mine = ++newest;
        const body = new URLSearchParams(new FormData(form));
        body.set(button.name, button.value);
        try {
          const now = await part(form.dataset.preview, form.action, { method: "POST", body });
          if (now && mine === newest) document.getElementById(form.dataset.preview).replaceWith(now);
        } catch {
          // As above; the button is still there.
        }
      }, 400);
    });
  }
})();
