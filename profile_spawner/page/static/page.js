// Improves the spawn page. The page also works without JavaScript.
(() => {
  "use strict";
  const page = document.getElementById("ps-page");
  if (!page) return;
  const form = page.closest("form");
  const text = page.dataset;
  const cards = () => [...page.querySelectorAll(".ps-card")];
  const chosen = () => page.querySelector(".ps-radio:checked")?.closest(".ps-card") ?? null;
  const button = form?.querySelector("button[type=submit], input[type=submit]");

  const fieldValue = (field) => {
    const switched = field.querySelector("input[type=checkbox][role=switch]");
    if (switched) return switched.checked;
    const boxes = [...field.querySelectorAll("input[type=checkbox]")];
    if (boxes.length) return boxes.filter((b) => b.checked).map((b) => b.value);
    return field.querySelector("select, input:not([type=hidden])")?.value ?? "";
  };

  // Show a dependent option only if the other option has one of the required values.
  const updateDependent = (card) => {
    const shown = new Map();
    for (const field of card.querySelectorAll(".ps-field")) {
      const when = field.dataset.when ? JSON.parse(field.dataset.when) : {};
      const visible = Object.entries(when).every(([name, values]) => {
        const value = shown.get(name);
        return value !== undefined && values.some((v) => v === value || String(v) === String(value));
      });
      field.hidden = !visible;
      if (visible) shown.set(field.dataset.option, fieldValue(field));
    }
  };

  const updateBadges = (card) => {
    for (const badge of card.querySelectorAll(".ps-badge")) {
      badge.dataset.original ??= badge.textContent;
      badge.textContent = badge.dataset.original;
      badge.classList.remove("ps-changed");
    }
    card.querySelectorAll(".ps-badge.ps-added").forEach((badge) => badge.remove());
    for (const field of card.querySelectorAll(".ps-field[data-badges]")) {
      if (field.hidden) continue;
      const changes = JSON.parse(field.dataset.badges);
      const values = [fieldValue(field)].flat();
      for (const [kind, label] of values.flatMap((v) => changes[v] ?? (changes["*"] ?? []).map(([k, l]) => [k, l.replace("{value}", v)]))) {
        let badge = card.querySelector(`.ps-badge[data-kind="${kind}"]`);
        if (!badge) {
          badge = document.createElement("span");
          badge.className = `ps-badge ps-${kind} ps-added`;
          badge.dataset.kind = kind;
          card.querySelector(".ps-badges").prepend(badge);
          badge.dataset.original = "";
        }
        if (badge.textContent !== label) {
          badge.textContent = label;
          badge.classList.add("ps-changed");
        }
      }
    }
  };

  // The browser validates visible fields only: an invalid field of another profile must not block the form.
  const updateChecks = () => {
    const active = chosen();
    for (const input of page.querySelectorAll("[data-pattern]")) {
      const used = active?.contains(input) && !input.closest("[hidden]");
      if (used) input.pattern = input.dataset.pattern;
      else input.removeAttribute("pattern");
    }
    for (const input of page.querySelectorAll("[aria-required]")) {
      input.required = Boolean(active?.contains(input) && !input.closest("[hidden]"));
    }
    for (const card of cards()) {
      for (const input of card.querySelectorAll("input[type=number]")) {
        input.disabled = card !== active && !input.hasAttribute("aria-disabled");
      }
    }
  };

  const update = () => {
    const card = chosen();
    if (card) {
      updateDependent(card);
      updateBadges(card);
      if (button) button.textContent = `${text.textStart} ${card.dataset.title}`;
    }
    updateChecks();
  };

  const addSliders = (root) => {
    for (const input of root.querySelectorAll("input[type=number][min][max]")) {
      if (input.dataset.slider || input.disabled) continue;
      input.dataset.slider = "yes";
      const slider = document.createElement("input");
      Object.assign(slider, { type: "range", min: input.min, max: input.max, step: input.step === "any" ? "0.1" : input.step });
      slider.value = input.value || input.min;
      slider.className = "ps-slider";
      slider.setAttribute("aria-hidden", "true");
      slider.tabIndex = -1;
      slider.addEventListener("input", () => { input.value = slider.value; update(); });
      input.addEventListener("input", () => { slider.value = input.value; });
      input.after(slider);
    }
  };

  const linkToChoice = () => {
    const card = chosen();
    const url = new URL(text.link || location.pathname, location.href);
    if (!card) return url.href;
    const prefix = text.linkPrefix;
    url.searchParams.set(`${prefix}profile`, card.dataset.slug);
    for (const field of card.querySelectorAll(".ps-field")) {
      if (field.hidden) continue;
      for (const input of field.querySelectorAll("select, input:not(.ps-slider)")) {
        if (!input.name || input.disabled || (input.type === "checkbox" && !input.checked) || input.value === "") continue;
        if (input.type === "hidden" && field.querySelector("input[type=checkbox]:checked")) continue;
        url.searchParams.append(prefix + input.name, input.value);
      }
    }
    return url.href;
  };

  const search = document.getElementById("ps-search");
  const count = document.getElementById("ps-count");
  const found = document.getElementById("ps-found");
  let latest = 0;
  let best = null;
  // Move the card whose title is what was typed to the top, and an earlier one back to its place.
  // A card that is moved loses the focus, so one in the right place stays where it is.
  const moveBest = (words) => {
    const title = (card) => card.dataset.title.toLowerCase().split(/\s+/).filter(Boolean).join(" ");
    if (best && title(best.card) === words.join(" ")) return;
    if (best) best.place.replaceWith(best.card);
    const card = cards().find((one) => !found.contains(one) && title(one) === words.join(" "));
    best = card && words.length ? { card, place: document.createComment("") } : null;
    if (!best) return;
    card.replaceWith(best.place);
    found.prepend(card);
  };
  const showCount = (n) => { count.textContent = n === 1 ? text.textOne : text.textMany.replace("{n}", n); };
  const filter = async () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    moveBest(words);
    const present = cards().filter((card) => !found.contains(card) || card === best?.card);
    const all = present.length >= Number(text.total);
    let matches = 0;
    for (const card of present) {
      const hit = words.every((word) => card.dataset.search.includes(word));
      card.hidden = !hit && card !== chosen();
      if (hit) matches += 1;
    }
    for (const section of page.querySelectorAll(".ps-section")) {
      section.hidden = ![...section.querySelectorAll(".ps-card")].some((card) => !card.hidden);
    }
    if (!words.length) {
      count.textContent = "";
      if (!chosen() || !found.contains(chosen())) { found.replaceChildren(); found.hidden = true; }
      return;
    }
    found.hidden = !found.children.length;
    if (all || !text.searchUrl) { showCount(matches); return; }
    const ticket = ++latest;
    const url = new URL(text.searchUrl, location.href);
    url.searchParams.set("q", search.value);
    url.searchParams.set("fragment", "1");
    try {
      const answer = await fetch(url, { headers: { Accept: "text/html" }, credentials: "same-origin" });
      if (!answer.ok || ticket !== latest) return;
      const fetched = new DOMParser().parseFromString(await answer.text(), "text/html");
      const known = new Set(present.map((card) => card.dataset.slug));
      const kept = [...found.children].find((card) => card === chosen() && card !== best?.card);
      if (kept) known.add(kept.dataset.slug);
      const fresh = [...fetched.querySelectorAll(".ps-card")].filter((card) => !known.has(card.dataset.slug));
      for (const card of [...found.children]) if (card !== best?.card && card !== kept) card.remove();
      if (kept) kept.before(...fresh); else found.append(...fresh);
      found.hidden = !found.children.length;
      addSliders(found);
      showCount(Number(answer.headers.get("X-Total-Count") ?? matches));
    } catch { showCount(matches); }
  };
  if (search) {
    let timer = 0;
    search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(filter, 120); });
    search.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
    page.querySelector(".ps-all")?.remove();
  }

  const copy = document.getElementById("ps-copy");
  if (copy) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      const url = linkToChoice();
      try { await navigator.clipboard.writeText(url); } catch { window.prompt(copy.textContent, url); return; }
      const label = copy.textContent;
      copy.textContent = text.textCopied;
      setTimeout(() => { copy.textContent = label; }, 2000);
    });
  }

  page.addEventListener("change", update);
  addSliders(page);
  update();
  const summary = document.getElementById("ps-summary");
  if (summary) summary.focus();
  else chosen()?.scrollIntoView({ block: "nearest" });
})();
