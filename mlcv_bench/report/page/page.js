"use strict";
// The page's script: theme, copying, downloads, tables, and figures drawn by plotly. Nothing is fetched.

const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
const plots = (inside = document) => all(".plot", inside).filter((plot) => plot.data);

// --- theme: the reader's setting, until the button says otherwise

let printing = false; // on paper every page is a light one

const dark = () =>
  !printing && (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function toggleTheme() {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  plots().forEach(recolour);
}

// A colour of the same hue, as light as the given one is dark, so that black lines show on a dark page.
function mirrored(parts) {
  const shift = 255 - Math.max(...parts) - Math.min(...parts);
  return "#" + parts.map((part) => (part + shift).toString(16).padStart(2, "0")).join("");
}
const luminance = ([r, g, b]) => 0.3 * r + 0.59 * g + 0.11 * b;
const DARK_ENOUGH_TO_VANISH = 85;
function onDark(colour) {
  if (!/^#[0-9a-f]{6}$/i.test(colour)) return colour;
  const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return luminance(parts) < DARK_ENOUGH_TO_VANISH ? mirrored(parts) : colour;
}

const COLOURS = ["line.color", "marker.color", "marker.line.color", "error_x.color", "error_y.color", "fillcolor", "textfont.color"];
const valueAt = (object, path) => path.split(".").reduce((part, key) => (part == null ? part : part[key]), object);

function recolour(plot) {
  const style = getComputedStyle(document.documentElement);
  const [ink, grid] = printing ? ["#000000", "#dddddd"] : ["--ink", "--grid"].map((name) => style.getPropertyValue(name).trim());
  plot.bright ??= plot.data.map((trace) => COLOURS.map((path) => valueAt(trace, path)));
  const visible = (colour) => (dark() ? onDark(colour) : colour);
  const changed = {};
  COLOURS.forEach((path, place) => {
    const kept = plot.bright.map((trace) => trace[place]);
    if (kept.some((colour) => typeof colour === "string")) changed[path] = kept.map((colour) => (typeof colour === "string" ? visible(colour) : colour));
  });
  const layout = { "font.color": ink };
  for (const key of Object.keys(plot.layout)) {
    if (/^[xy]axis\d*$/.test(key)) Object.assign(layout, { [key + ".gridcolor"]: grid, [key + ".linecolor"]: ink, [key + ".tickcolor"]: ink });
    if (/^scene\d*$/.test(key))
      for (const axis of ["xaxis", "yaxis", "zaxis"]) Object.assign(layout, { [`${key}.${axis}.gridcolor`]: grid, [`${key}.${axis}.color`]: ink });
  }
  (plot.layout.shapes || []).forEach((shape, place) => {
    shape.first ??= shape.line && shape.line.color;
    if (shape.first) layout[`shapes[${place}].line.color`] = visible(shape.first);
  });
  return Plotly.update(plot, changed, layout);
}

// --- figures

const NARROW = 600; // pixels
const LETTER = 7.5; // pixels of a letter of a title
const PAPER = 640; // pixels of a figure on paper

// Plotly breaks no title by itself.
function broken(words, width) {
  const lines = [""];
  for (const word of words.split(" ")) {
    if ((lines.at(-1) + word).length * LETTER > width && lines.at(-1)) lines.push("");
    lines.push(`${lines.pop()} ${word}`.trim());
  }
  return lines.join("<br>");
}

function fitToPaper(wanted) {
  printing = wanted;
  if (window.Plotly) waiting.forEach(drawNow);
  for (const plot of plots()) {
    Plotly.relayout(plot, wanted ? { width: PAPER } : { width: null, autosize: true });
    recolour(plot);
  }
}

// A figure with selects above it: their choice, as "0|2", names a state, whose "@name" stands for one of the arrays.
function choose(plot, more) {
  const at = (value) => (typeof value === "string" && value.startsWith("@") ? more.arrays[value.slice(1)] : value);
  const selects = more.controls.map(({ label, options, start }) => {
    const select = document.createElement("select");
    select.append(...options.map((words, place) => new Option(words, place, place === start, place === start)));
    const named = document.createElement("label");
    named.append(label + " ", select);
    return [named, select];
  });
  const bar = document.createElement("p");
  bar.className = "controls";
  bar.append(...selects.map(([named]) => named));
  plot.before(bar);
  const apply = () => {
    const { data, layout } = more.states[selects.map(([, select]) => select.value).join("|")];
    const all = Object.fromEntries(Object.entries(data).map(([key, values]) => [key, values.map(at)]));
    return Plotly.update(plot, all, layout);
  };
  selects.forEach(([, select]) => select.addEventListener("change", apply));
}

const BEHAVIOURS = { choose };

async function drawFigure(plot) {
  const figure = JSON.parse(document.getElementById(plot.id + "-data").textContent);
  const letters = Math.round(0.8 * parseFloat(getComputedStyle(document.body).fontSize));
  figure.layout.font = { ...figure.layout.font, size: letters };
  if (innerWidth < NARROW) {
    // A view from above keeps its shape: as high as on a wide page, most of it would be empty.
    if (figure.layout.scene || (figure.layout.yaxis || {}).scaleanchor) {
      figure.layout.height = Math.min(figure.layout.height, 1.15 * innerWidth);
      plot.style.minHeight = `${figure.layout.height}px`;
    }
    const { camera } = figure.layout.scene || {};
    if (camera) for (const axis of ["x", "y", "z"]) camera.eye[axis] *= 1.25; // further away, to have all of it
    const { l, r } = figure.layout.margin;
    figure.layout.margin = { ...figure.layout.margin, l: Math.min(l, 45), r: Math.min(r, 8) };
    const title = figure.layout.xaxis && figure.layout.xaxis.title;
    if (title && title.text) title.text = broken(title.text, plot.clientWidth - 60);
  }
  await Plotly.newPlot(plot, figure.data, figure.layout, { responsive: true, displaylogo: false });
  if (figure.frames) await Plotly.addFrames(plot, figure.frames);
  if (dark()) await recolour(plot);
  plot.on("plotly_legendclick", (event) => hideEverywhere(event.data[event.curveNumber]));
  if (figure.behaviour) BEHAVIOURS[figure.behaviour](plot, figure.more);
  hidden.forEach((name) => hideIn(plot, name, "legendonly"));
  plot.dispatchEvent(new Event("plotted", { bubbles: true }));
}

// A click on a name hides what has it in every figure of the page, or shows it again.
const hidden = new Set();
function hideEverywhere(clicked) {
  const name = clicked.legendgroup || clicked.name;
  const visible = clicked.visible === "legendonly" ? true : "legendonly";
  hidden[visible === true ? "delete" : "add"](name);
  plots().forEach((plot) => hideIn(plot, name, visible));
  return false;
}
function hideIn(plot, name, visible) {
  const places = plot.data.flatMap((trace, place) => ((trace.legendgroup || trace.name) === name ? [place] : []));
  if (places.length) Plotly.restyle(plot, { visible }, places);
}

// Plotly's script, which the page holds compressed, so that its text is shown before the figures are drawn.
async function startPlotly() {
  const held = document.getElementById("plotly");
  if (held) document.head.append(Object.assign(document.createElement("script"), { textContent: await unzipped(held) }));
}

async function unzipped(held) {
  const text = held.textContent;
  const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

// What is in view is drawn first, then the rest, between which the reader may scroll; what is slow comes after both.
const waiting = new Set(all(".plot"));
const drawNow = (plot) => waiting.delete(plot) && drawFigure(plot);
const inView = (plot) => plot.getBoundingClientRect().top < innerHeight;
const later = () => new Promise((resolve) => setTimeout(resolve));
const note = (name) => (document.documentElement.dataset[name] = Math.round(performance.now()));

async function drawFigures() {
  if (waiting.size) await startPlotly();
  note("started");
  const order = [".plot:not(.late)", ".plot.late"].flatMap((kind) => all(kind));
  for (const plot of order.filter((one) => inView(one) && !one.matches(".late"))) await drawNow(plot);
  note("drawn");
  for (const plot of order) await later().then(() => drawNow(plot));
  note("complete");
}

// --- tables

const rowsOf = (table) => [...table.tBodies[0].rows];
const keyOf = (cell) => (cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value));
const missing = (cell) => cell.dataset.value === undefined && ["-", ""].includes(cell.textContent);

function sortBy(table, column, ascending) {
  const sign = ascending ? 1 : -1;
  const order = rowsOf(table).sort((one, other) => {
    const [a, b] = [one.cells[column], other.cells[column]];
    if (missing(a) || missing(b)) return missing(a) - missing(b); // what is missing stays below
    const [x, y] = [keyOf(a), keyOf(b)];
    if (typeof x === "number" && typeof y === "number") return sign * (x - y);
    return sign * String(x).localeCompare(String(y), "en", { numeric: true });
  });
  table.tBodies[0].append(...order);
}

function makeSortable(table) {
  if (table.tBodies[0].rows.length < 2) return;
  all("thead th", table).forEach((header, column, headers) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const ascending = header.getAttribute("aria-sort") !== "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sortBy(table, column, ascending);
    });
  });
}

function makeFilter(field) {
  const part = field.closest(".table");
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = rowsOf(part.querySelector("table"));
    rows.forEach((row) => (row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word))));
    const left = rows.filter((row) => !row.hidden).length;
    part.querySelector("output").textContent = words.length ? `${left} of ${rows.length} rows` : "";
  });
}

// --- networks: stages that fold, zoom by buttons, pan by dragging, and a line that says what a box is

const STEP = 1.25;

function prepareNetwork(network) {
  const view = network.querySelector(".view");
  const canvas = network.querySelector(".canvas");
  const said = network.querySelector("output");
  const stages = all(".stage:not(.plain)", network);
  const fold = (stage, folded) => {
    stage.classList.toggle("folded", folded);
    stage.querySelector("button").setAttribute("aria-expanded", String(!folded));
  };
  let zoom = 1;
  const zoomTo = (wanted) => {
    zoom = Math.min(4, Math.max(0.1, wanted));
    canvas.style.zoom = zoom;
  };
  const fit = () => {
    zoomTo(1);
    zoomTo(Math.min(1, view.clientWidth / canvas.scrollWidth));
  };
  const actions = {
    in: () => zoomTo(zoom * STEP),
    out: () => zoomTo(zoom / STEP),
    fit,
    fold: () => stages.forEach((stage) => fold(stage, true)),
    unfold: () => stages.forEach((stage) => fold(stage, false)),
  };
  all("[data-action]", network).forEach((button) => button.addEventListener("click", actions[button.dataset.action]));
  view.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return; // the wheel alone scrolls, as everywhere
    event.preventDefault();
    zoomTo(zoom * (event.deltaY < 0 ? STEP : 1 / STEP));
  }, { passive: false });
  let held = null;
  view.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse") held = { x: event.clientX, y: event.clientY, left: view.scrollLeft, top: view.scrollTop, moved: false };
  });
  addEventListener("pointermove", (event) => {
    if (!held) return;
    held.moved ||= Math.hypot(event.clientX - held.x, event.clientY - held.y) > 4;
    if (held.moved) view.scrollTo(held.left + held.x - event.clientX, held.top + held.y - event.clientY);
  });
  stages.forEach((stage) => stage.addEventListener("click", () => {
    if (!(held && held.moved)) fold(stage, !stage.classList.contains("folded"));
  }));
  addEventListener("click", () => (held = null));
  all(".box", network).forEach((box) => {
    for (const event of ["pointerenter", "focus"]) box.addEventListener(event, () => (said.textContent = box.getAttribute("aria-label")));
  });
  fit();
}

// --- copying and files

async function copyCommand(button) {
  const command = button.parentElement.querySelector("code");
  let copied = true;
  try {
    await navigator.clipboard.writeText(command.textContent);
  } catch {
    getSelection().selectAllChildren(command);
    copied = document.execCommand("copy");
  }
  button.textContent = copied ? "Copied" : "Press Ctrl+C";
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

async function download(button) {
  const held = all("script", button.parentElement)[all(".download", button.parentElement).indexOf(button)];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([await unzipped(held)], { type: "text/plain" }));
  link.download = button.dataset.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// --- start

document.getElementById("theme").addEventListener("click", toggleTheme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots().forEach(recolour));
addEventListener("beforeprint", () => fitToPaper(true));
addEventListener("afterprint", () => fitToPaper(false));
all(".copy").forEach((button) => button.addEventListener("click", () => copyCommand(button)));
all(".download").forEach((button) => button.addEventListener("click", () => download(button)));
all(".table table").forEach(makeSortable);
all(".filter input").forEach(makeFilter);
all(".network").forEach(prepareNetwork);
drawFigures();
