// --- a race: whose runs the figures show, and up to which step

const NUMBERS = { f4: Float32Array, i4: Int32Array, u2: Uint16Array };
const unpacked = ({ dtype, bdata }) => new NUMBERS[dtype](Uint8Array.from(atob(bdata), (letter) => letter.charCodeAt(0)).buffer);
const PLAYED_MS = 8000;

BEHAVIOURS.race = (first, race) => {
  const section = first.closest(".result");
  const { states, step, rate, play } = raceControls(first, race);
  const read = new Map();

  // The run of an optimizer that is to be shown, unpacked once; nothing where there is none.
  const courseOf = (name) => {
    const own = race.runs[name] || {};
    const packed = states.value === "rate" ? own.rates && own.rates[rate.value] : own[states.value];
    if (packed && !read.has(packed)) read.set(packed, Object.fromEntries(Object.entries(packed).map(([key, value]) => [key, unpacked(value)])));
    return read.get(packed);
  };

  // What a trace shows of a run up to a step: all its points, or the last as its head.
  const pointsOf = ({ shows, head }, course, last) => {
    if (!course) return { x: [], y: [], z: [], customdata: [] };
    const count = course.steps.findLastIndex((mark) => mark <= last) + 1;
    const cut = (values) => values.subarray(head ? count - 1 : 0, count);
    if (shows === "loss" || shows === "distance") return { x: cut(course.steps), y: cut(course[shows]) };
    const [steps, losses] = [cut(course.steps), cut(course.loss)];
    const points = { x: cut(course.x), y: cut(course.y), customdata: Array.from(steps, (mark, place) => [mark, losses[place]]) };
    return shows === "height" ? { ...points, z: cut(course.height) } : points;
  };

  // A figure is drawn anew a third of the time at most, each at its own pace, and in the end as it is to be.
  const put = (plot, last) => {
    const began = performance.now();
    clearTimeout(plot.later);
    plot.later = 0;
    if (began < plot.rests) {
      plot.later = setTimeout(put, plot.rests - began, plot, last);
      return;
    }
    const traces = plot.data.flatMap((trace, place) => (trace.meta && trace.meta.shows ? [place] : []));
    if (!traces.length) return;
    const found = traces.map((place) => pointsOf(plot.data[place].meta, courseOf(plot.data[place].meta.run), last));
    const keys = [...new Set(found.flatMap(Object.keys))];
    Plotly.restyle(plot, Object.fromEntries(keys.map((key) => [key, found.map((points) => points[key] || [])])), traces);
    requestAnimationFrame(() => (plot.rests = 3 * performance.now() - 2 * began));
  };

  // What stands beside the sliders.
  const say = () => {
    step.nextElementSibling.value = race.marks[step.value];
    if (race.rates.length) rate.nextElementSibling.value = Number(race.rates[rate.value].toPrecision(3));
  };

  const show = () => {
    plots(section).forEach((plot) => put(plot, race.marks[step.value]));
    say();
  };

  const goToEnd = (reach) => {
    step.max = race.marks.findLastIndex((mark) => mark <= reach);
    step.value = step.max;
  };

  // Another protocol or rate: its slopes, and as many steps as it is worth looking at.
  const reach = () => race.reach[states.value] || race.steps;
  const adapt = (plot) => {
    const shown = plot.data.map((trace) => trace.meta && trace.meta.shows);
    const slopes = plot.data.flatMap((trace, place) => (trace.meta && trace.meta.protocol ? [place] : []));
    if (slopes.length) Plotly.restyle(plot, { opacity: slopes.map((place) => Number(plot.data[place].meta.protocol === states.value)) }, slopes);
    if (shown.includes("loss") || shown.includes("distance")) Plotly.relayout(plot, { "xaxis.range": [0, reach()] });
  };
  const change = () => {
    goToEnd(reach());
    plots(section).forEach(adapt);
    show();
  };
  // A figure that is drawn after the controls were moved.
  section.addEventListener("plotted", ({ target }) => {
    if (states.value === race.shown && step.value === step.max) return;
    adapt(target);
    put(target, race.marks[step.value]);
  });

  let began = null;
  const stop = () => {
    began = null;
    play.textContent = "Play";
  };
  const advance = (now) => {
    if (began === null) return;
    began ||= now;
    const share = Math.min(1, (now - began) / PLAYED_MS);
    step.value = Math.round(share * step.max);
    show();
    if (share < 1) requestAnimationFrame(advance);
    else stop();
  };
  play.addEventListener("click", () => {
    if (began !== null) return stop();
    began = 0;
    play.textContent = "Stop";
    requestAnimationFrame(advance);
  });
  step.addEventListener("input", () => (stop(), show()));
  states.addEventListener("change", () => (stop(), change()));
  rate.addEventListener("input", () => {
    const until = step.value;
    stop();
    if (states.value !== "rate") {
      states.value = "rate";
      change();
    } else {
      step.value = until;
      show();
    }
  });
  goToEnd(race.reach[race.shown]);
  say();
};

// The controls of a race, put before its figures.
function raceControls(first, race) {
  const controls = document.createElement("div");
  controls.className = "controls steering";
  const labelled = (words, control, long) => {
    const label = document.createElement("label");
    if (long) label.className = "long";
    label.append(words, control);
    if (long) label.append(document.createElement("output"));
    controls.append(label);
    return control;
  };
  const slider = (most) => Object.assign(document.createElement("input"), { type: "range", min: 0, max: most, value: most });
  const states = document.createElement("select");
  for (const [value, words] of Object.entries(race.protocols)) states.append(new Option(words, value));
  if (race.rates.length) states.append(new Option("one rate for all", "rate"));
  states.value = race.shown;
  labelled("Runs", states);
  const rate = slider(Math.max(0, race.rates.length - 1));
  rate.value = Math.floor(race.rates.length / 2);
  labelled("Learning rate", rate, true);
  rate.closest("label").hidden = !race.rates.length;
  const play = Object.assign(document.createElement("button"), { type: "button", textContent: "Play" });
  controls.append(play);
  const step = labelled("Step", slider(race.marks.length - 1), true);
  const names = Object.assign(document.createElement("div"), { className: "names" });
  for (const [group, name] of Object.entries(race.names)) names.append(nameButton(first, group, name));
  controls.append(names);
  first.closest("figure").before(controls);
  return { states, step, rate, play };
}

// A name in its colour, a click on which hides it in every figure.
function nameButton(plot, group, name) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "name" });
  const { color, dash } = (plot.data.find((trace) => trace.legendgroup === group && trace.line) || {}).line || {};
  const line = document.createElement("span");
  if (color) line.style.borderTop = `3px ${{ solid: "solid", dot: "dotted" }[dash] || "dashed"} light-dark(${color}, ${onDark(color)})`;
  button.append(line, name);
  button.setAttribute("aria-pressed", true);
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") === "true";
    hideEverywhere({ legendgroup: group, visible: shown ? true : "legendonly" });
    button.setAttribute("aria-pressed", !shown);
  });
  return button;
}
