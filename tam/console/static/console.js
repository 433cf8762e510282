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
  // they stop it. Nobody loses what they are at: not the focus, nor a form that is open. What data-news says
  // of it is told to screen readers when it changed.
  const live = document.querySelector("[data-live]");
  const stop = document.getElementById("live");
  if (live && stop) {
    const news = document.getElementById("news");
    let running = true;
    stop.hidden = false;
    stop.addEventListener("click", () => {
      running = !running;
      stop.setAttribute("aria-pressed", String(running));
    });
    const renew = (old, now) => {
      const open = [...old.querySelectorAll("details")].map(d => d.open);
      [...now.querySelectorAll("details")].forEach((d, i) => { d.open = Boolean(open[i]); });
      const left = [...old.querySelectorAll(".scroll")].map(s => s.scrollLeft);
      if (now.dataset.news !== old.dataset.news) news.textContent = now.dataset.news;
      old.replaceWith(now);
      [...now.querySelectorAll(".scroll")].forEach((s, i) => { s.scrollLeft = left[i] || 0; });
    };
    const again = async () => {
      const busy = () => {
        const old = document.getElementById(live.id);
        return !running || document.hidden || old.contains(document.activeElement) || old.querySelector("details.act[open]");
      };
      if (!busy()) {
        try {
          const now = await part(live.id, location.href);
          if (now && !busy()) renew(document.getElementById(live.id), now);
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
  const button = form && form.querySelector("button[name=preview]");
  if (button) {
    let timer = 0, newest = 0;
    form.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(async () => {
        const mine = ++newest;
        const body = new URLSearchParams(new FormData(form));
        body.set(button.name, button.value);
        try {
          const now = await part(form.dataset.preview, form.action, { method: "POST", body });
          // The section stays, so that a screen reader tells what is new in it.
          if (now && mine === newest) document.getElementById(form.dataset.preview).replaceChildren(...now.childNodes);
        } catch {
          // As above; the button is still there.
        }
      }, 400);
    });
  }
})();
