"use strict";
/* Search, filter, sorting, theme and links. Everything they act on is in the page already. */

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);
const words = (text) => text.toLowerCase().replace(/\s+/g, " ");

/* Theme: what the system prefers, until somebody chooses. */
function startTheme() {
  const button = byId("theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const remembered = remember("theme");
  const show = (dark) => {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    button.setAttribute("aria-pressed", dark);
  };
  show(remembered ? remembered === "dark" : prefersDark.matches);
  prefersDark.addEventListener("change", () => remember("theme") || show(prefersDark.matches));
  button.addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme !== "dark";
    show(dark);
    remember("theme", dark ? "dark" : "light");
  });
}

/* Browsers may refuse a file of this disk its storage: then nothing is remembered. */
function remember(key, value) {
  try {
    if (value !== undefined) localStorage.setItem(key, value);
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/* Search and filter: a section stays if its heading matches, or a row or a claim of it does. */
const index = [];

function startSearch() {
  for (const section of all(".experiment")) {
    index.push({
      section,
      heading: words(section.querySelector(".heading").textContent),
      rows: all("tr[data-row]", section).map((row) => [row, wordsOfRow(row, section.dataset.experiment)]),
      claims: all(".claim", section).map((claim) => [claim, words(claim.querySelector("summary").textContent)]),
      beside: all(`[data-for="${section.id}"]`),
    });
  }
  byId("search").addEventListener("input", narrow);
  byId("filter").addEventListener("change", narrow);
  document.querySelector(".controls").addEventListener("submit", (event) => {
    event.preventDefault();
    goToFirst();
  });
  for (const button of all("[data-filter]")) {
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const select = byId("filter");
      select.value = select.value === button.dataset.filter ? "" : button.dataset.filter;
      narrow();
    });
  }
}

/* Tables print what differs between rows, not always what they are called. */
function wordsOfRow(row, experiment) {
  const label = data.labels[`${experiment}:${row.dataset.row}`];
  row.title = label;
  return words(`${row.dataset.row} ${label} ${row.textContent}`);
}

function narrow() {
  const query = words(byId("search").value).trim();
  const kind = byId("filter").value;
  let claims = 0, rows = 0, sections = 0;
  for (const entry of index) {
    const whole = !query || entry.heading.includes(query);
    let ownClaims = 0, ownRows = 0;
    for (const [claim, text] of entry.claims) {
      const shown = (whole || text.includes(query)) && isOf(claim, kind);
      claim.hidden = !shown;
      ownClaims += shown;
      const tile = document.querySelector(`.tile[href="#${CSS.escape(claim.id)}"]`);
      tile?.classList.toggle("dim", !shown); // the scorecard is the paper's
    }
    for (const [row, text] of entry.rows) {
      const hit = Boolean(query) && text.includes(query);
      row.classList.toggle("hit", hit);
      ownRows += hit;
    }
    const shown = kind ? ownClaims > 0 : whole || ownClaims > 0 || ownRows > 0;
    entry.section.hidden = !shown;
    for (const line of entry.beside) line.hidden = !shown;
    if (shown) {
      sections += 1; claims += ownClaims; rows += ownRows;
    }
  }
  for (const button of all("[data-filter]")) {
    button.setAttribute("aria-pressed", button.dataset.filter === kind);
  }
  const said = [`${sections} experiments`, `${claims} claims`, ...(query ? [`${rows} rows with these words`] : [])];
  byId("found").textContent = query || kind ? `Showing ${said.join(", ")}` : "";
}

const isOf = (claim, kind) =>
  !kind || (kind === "overclaim" ? "overclaim" in claim.dataset : claim.dataset.kind === kind);

function goToFirst() {
  const first = index.find((entry) => !entry.section.hidden);
  if (first) {
    first.section.scrollIntoView();
    first.section.querySelector("h2 a").focus({ preventScroll: true });
  }
}

/* Sorting: up, down, as in the paper. Sub-headings make sense in the paper's order only. */
function startSorting() {
  for (const table of all(".experiment .scroll table")) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      const below = original.find((row) => !row.classList.contains("group"))?.cells[column];
      head.classList.toggle("number", Boolean(below?.classList.contains("number")));
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sortBy(heads, column, body, original));
    });
  }
}

function sortBy(heads, column, body, original) {
  const next = { none: "ascending", ascending: "descending", descending: "none" };
  const order = next[heads[column].getAttribute("aria-sort") || "none"];
  for (const head of heads) head.removeAttribute("aria-sort");
  const grouped = original.filter((row) => row.classList.contains("group"));
  for (const row of grouped) row.hidden = order !== "none";
  if (order === "none") {
    body.append(...original);
    return;
  }
  heads[column].setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const lines = original.filter((row) => !row.classList.contains("group"));
  const keys = new Map(lines.map((row) => [row, sortKey(row.cells[column].textContent.trim())]));
  lines.sort((a, b) => compare(keys.get(a), keys.get(b), sign));
  body.append(...lines);
}

/* A number where a cell begins with one; cells without anything come last in either order. */
function sortKey(text) {
  const number = text.match(/^[+\u2212-]?\d+(\.\d+)?/);
  if (number) return Number(number[0].replace("\u2212", "-"));
  return /^(-|not run|not measured|)$/.test(text) ? null : text;
}

function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return sign * (typeof a === "number" ? a - b : a.localeCompare(b));
}

/* Links: #T7 a section, #C.T7.1 a claim, #T7:r2:knn a cell. */
function follow() {
  const id = decodeURIComponent(location.hash.slice(1));
  const target = id && byId(id);
  for (const old of all(".claim.target")) old.classList.remove("target");
  if (!target) return;
  const section = target.closest(".experiment");
  if (section?.hidden || target.hidden) {
    byId("search").value = byId("filter").value = "";
    narrow();
  }
  if (target.matches(".claim")) {
    target.open = true;
    target.classList.add("target");
    target.querySelector("summary").focus({ preventScroll: true });
  }
  target.scrollIntoView(target.matches(".cell") ? { block: "center" } : {});
  if (target.matches(".cell")) openPanel(id);
}

function startLinks() {
  addEventListener("hashchange", follow);
  document.addEventListener("click", (event) => {
    const again = event.target.closest("a[href]")?.getAttribute("href") === location.hash;
    if (again && location.hash) follow();
  });
  follow();
}

/* The contents say where one is. */
function startContents() {
  const links = new Map(all(".side a").map((link) => [link.getAttribute("href").slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      for (const link of links.values()) link.classList.remove("here");
      const link = links.get(entry.target.id);
      link?.classList.add("here");
      link?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  for (const section of all("main > section")) seen.observe(section);
  if (matchMedia("(max-width: 56rem)").matches) document.querySelector(".side details").open = false;
}

function startKeys() {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea, dialog");
    if (event.key === "/" && !typing) {
      event.preventDefault();
      byId("search").focus();
    }
    if (event.key === "Escape" && event.target === byId("search")) {
      byId("search").value = "";
      narrow();
    }
  });
}

/* On paper everything is open. */
function startPrinting() {
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("main details:not([open])");
    for (const details of closed) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of closed) details.open = false;
  });
}

addEventListener("DOMContentLoaded", () => {
  startTheme();
  startSearch();
  startSorting();
  startContents();
  startKeys();
  startPrinting();
  startPanel();
  startLinks();
});
