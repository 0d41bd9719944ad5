// Elements from data. Texts become text nodes and attributes, never markup: what a guest said stays what it said.

/**
 * Makes an element. `attributes` are attributes, but for `on...`, which are listeners, and `style`, an object of
 * properties.
 * Children are nodes, texts, numbers or lists of these; null and false are nothing.
 */
function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
function svg(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, to] of Object.entries(value)) element.style.setProperty(key, to);
    else element.setAttribute(name, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

function add(element, child) {
  if (Array.isArray(child)) child.forEach((one) => add(element, one));
  else if (child instanceof Node) element.append(child);
  else if (child !== null && child !== undefined && child !== false) element.append(String(child));
}

/** Puts other children into an element. */
function put(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

/** `1,234 cells`. */
function counted(count, noun) {
  return `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`;
}

function grouped(count) {
  return count.toLocaleString("en-US");
}

/** Microseconds, for people. */
function duration(micros) {
  if (micros === 0) return "";
  if (micros < 1000) return `${micros} µs`;
  if (micros < 1e6) return `${(micros / 1000).toPrecision(3)} ms`;
  if (micros < 6e7) return `${(micros / 1e6).toPrecision(3)} s`;
  return `${Math.floor(micros / 6e7)} min ${Math.round((micros % 6e7) / 1e6)} s`;
}

/** `20261121T180614Z`, as people read it. */
function time(started) {
  const parts = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(started);
  return parts ? `${parts[1]}-${parts[2]}-${parts[3]} ${parts[4]}:${parts[5]} UTC` : started;
}

/** Says something to those who do not see the page change. */
function say(text) {
  document.getElementById("live").textContent = text;
}

/** A list of keys and values, each value a node or a text; without those that are empty. */
function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined && value !== false);
  return h(
    "dl",
    { class: "facts" },
    shown.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))),
  );
}

/** A command that somebody copies. */
function command(text) {
  const code = h("code", null, text);
  const button = h("button", { type: "button", class: "copy", onclick: () => copy(code, button) }, "copy");
  return h("div", { class: "command" }, code, button);
}

async function copy(code, button) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "copied";
  } catch {
    // A page that was opened from a file may not be let: then it is selected.
    getSelection().selectAllChildren(code);
    button.textContent = "selected";
  }
  setTimeout(() => (button.textContent = "copy"), 1500);
}

/** A choice of one value: `options` are pairs of value and name. */
function choice(label, options, value, change) {
  const select = h(
    "select",
    { onchange: (event) => change(event.target.value) },
    options.map(([key, name]) => h("option", { value: key, selected: String(key) === String(value) }, name)),
  );
  return h("label", { class: "choice" }, h("span", null, label), select);
}

/** A table with a name above each column, which scrolls where it is wider than the page. */
function table(kind, names, rows) {
  const head = h("tr", null, names.map((name) => h("th", { scope: "col" }, name)));
  return h("div", { class: "wide" }, h("table", { class: kind }, h("thead", null, head), h("tbody", null, rows)));
}
