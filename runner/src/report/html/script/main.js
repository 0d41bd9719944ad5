// Views by the part of the address after #, so that each has a link; the keyboard; the theme.

const VIEWS = [
  ["o", "#/", "Overview"],
  ["m", "#/matrix", "Matrix"],
  ["c", "#/changes", "Changes"],
  ["l", "#/cells", "Cells"],
  ["?", "#/about", "About"],
];
const THEMES = ["auto", "light", "dark"];
let current = null;

function viewAt(hash) {
  const [path, query] = hash.replace(/^#/, "").split("?");
  const parameters = new URLSearchParams(query ?? "");
  const [, view, ...rest] = path.split("/");
  switch (view) {
    case "matrix":
      return matrixView(parameters);
    case "changes":
      return changesView(parameters);
    case "cells":
      return cellsView(parameters);
    case "cell":
      return cellView(decoded(rest.join("/")), parameters);
    case "about":
      return aboutView(parameters);
    default:
      return overviewView();
  }
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function show() {
  current?.stop?.();
  current = viewAt(location.hash);
  const main = document.getElementById("main");
  put(main, current.content);
  document.title = `${current.title} · kvm-memtype`;
  scrollTo(0, 0);
  current.start?.();
  const view = location.hash.split(/[/?]/)[1] ?? "";
  for (const link of document.querySelectorAll("#nav a")) {
    const of = link.getAttribute("href").slice(2);
    const here = of === view || (of === "cells" && view === "cell");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  say(current.title);
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input, select, textarea");
  if (typing) {
    if (event.key === "Escape") typing.blur();
    else if (event.target.id === "filter" && ["ArrowDown", "Enter"].includes(event.key)) {
      typing.blur();
      current.keys?.ArrowDown?.();
      event.preventDefault();
    }
    return;
  }
  if (event.key === "/") {
    if (!document.getElementById("filter")) location.hash = queryLink("");
    // The view is shown when the address has changed.
    setTimeout(() => document.getElementById("filter")?.focus(), 30);
  } else if (event.key === "Enter" && event.target.closest("a, button, summary")) {
    return;
  } else if (current.keys?.[event.key]) {
    current.keys[event.key]();
  } else {
    const view = VIEWS.find(([key]) => key === event.key);
    if (!view) return;
    location.hash = view[1];
  }
  event.preventDefault();
}

/** What somebody chose before; a page from a file may not be let keep it. */
function kept() {
  try {
    return localStorage.getItem("kvm-memtype-theme");
  } catch {
    return null;
  }
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  const button = document.getElementById("theme");
  button.textContent = { auto: "◐", light: "☀", dark: "☾" }[name];
  button.title = `theme: ${name}`;
  button.setAttribute("aria-label", `Theme: ${name}`);
  try {
    localStorage.setItem("kvm-memtype-theme", name);
  } catch {
    // It holds for this visit then.
  }
}

put(
  document.getElementById("nav"),
  VIEWS.map(([key, href, name]) => h("a", { href, title: `key ${key}` }, name)),
);
const themeButton = document.getElementById("theme");
themeButton.hidden = false;
themeButton.addEventListener("click", () =>
  theme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]),
);
theme(THEMES.includes(kept()) ? kept() : "auto");
addEventListener("hashchange", show);
addEventListener("keydown", pressed);
document.querySelector(".skip").addEventListener("click", (event) => {
  // Its address is not a view.
  event.preventDefault();
  document.getElementById("main").focus();
});
show();
performance.mark("shown");
