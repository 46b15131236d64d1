// Graphs of the last minutes, as SVG.

const SVG = 'http://www.w3.org/2000/svg';
/** What a graph can cover, in minutes: the first that is enough for its samples. */
const COVERS = [1, 2, 4, 10];
const COVERS_MS_MAX = COVERS.at(-1) * 60000;
/** A line is broken where no sample came for longer than this. */
const GAP_MS = 5000;

function svgElement(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** The next of 1, 2, 5, 10, ... that is not below; for sizes the next power of two. */
function roundUp(value, isSize) {
  if (!(value > 0)) return 1;
  if (isSize) return 2 ** Math.ceil(Math.log2(value));
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.9999);
}

/** The axis of these values, from its least to its greatest. */
function axisOf(kind, values) {
  if (kind === 'percent') {
    const least = Math.min(100, ...values);
    return [[99, 95, 90, 80, 50].find((floor) => least >= floor) ?? 0, 100];
  }
  return [0, roundUp(Math.max(0, ...values), kind === 'size')];
}

/** One graph: a heading with the latest value, and the line. */
class Graph {
  constructor(title, kind, show, place) {
    Object.assign(this, { title, kind, show });
    this.figure = document.createElement('figure');
    const caption = document.createElement('figcaption');
    const heading = document.createElement('h3');
    heading.textContent = title;
    this.now = document.createElement('span');
    this.now.className = 'now';
    caption.append(heading, this.now);
    this.svg = svgElement('svg', { role: 'img', 'aria-label': `${title}: no figures yet` });
    this.figure.append(caption, this.svg);
    place.append(this.figure);
  }

  /** Draws samples, pairs of milliseconds and value; the time of the last one is now. */
  draw(samples, now) {
    const { svg, show } = this;
    const points = samples.filter(([at, value]) => value !== null && now - at <= COVERS_MS_MAX);
    const age = now - (points[0]?.[0] ?? now);
    const covers = (COVERS.find((minutes) => age <= minutes * 60000) ?? COVERS.at(-1)) * 60000;
    const values = points.map(([, value]) => value);
    const last = values.at(-1);
    setText(this.now, last === undefined ? '–' : show(last));
    const width = Math.max(160, svg.clientWidth);
    const height = Math.max(80, svg.clientHeight);
    const [least, most] = axisOf(this.kind, values);
    const ticks = [least, (least + most) / 2, most];
    const labels = ticks.map(show);
    const left = 12 + 6.5 * Math.max(...labels.map((label) => label.length));
    const [right, top, bottom] = [width - 6, 8, height - 20];
    const x = (at) => left + (right - left) * (1 - (now - at) / covers);
    const y = (value) => bottom - (bottom - top) * (value - least) / (most - least);
    const parts = ticks.flatMap((tick, place) => {
      const at = Math.round(y(tick)) + 0.5;
      return [
        svgElement('line', { class: 'grid', x1: left, x2: right, y1: at, y2: at }),
        svgElement('text', { x: left - 8, y: at + 4, 'text-anchor': 'end' }, labels[place]),
      ];
    });
    for (const [ago, anchor] of [[covers, 'start'], [covers / 2, 'middle'], [0, 'end']]) {
      const text = ago === 0 ? 'now' : `${span(ago)} ago`;
      const place = { x: x(now - ago), y: height - 4, 'text-anchor': anchor };
      parts.push(svgElement('text', place, text));
    }
    for (const run of runs(points)) {
      const path = run.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`);
      const [begin, end] = [x(run[0][0]), x(run.at(-1)[0])];
      const area = `M${begin.toFixed(1)},${bottom}L${path.join('L')}L${end.toFixed(1)},${bottom}Z`;
      parts.push(svgElement('path', { class: 'area', d: area }));
      parts.push(svgElement('path', { class: 'line', d: `M${path.join('L')}` }));
    }
    if (last !== undefined) {
      const dot = { class: 'dot', cx: x(points.at(-1)[0]), cy: y(last), r: 3 };
      parts.push(svgElement('circle', dot));
    }
    svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    svg.setAttribute('aria-label', this.described(values, covers));
    svg.replaceChildren(...parts);
  }

  described(values, covers) {
    if (values.length === 0) return `${this.title}: no figures yet`;
    const [now, least, most] = [values.at(-1), Math.min(...values), Math.max(...values)];
    return `${this.title} in the last ${span(covers)}: now ${this.show(now)}, `
      + `least ${this.show(least)}, most ${this.show(most)}`;
  }
}

/** Runs of samples without a gap. */
function runs(points) {
  const all = [];
  for (const point of points) {
    const run = all.at(-1);
    if (run && point[0] - run.at(-1)[0] <= GAP_MS) run.push(point);
    else all.push([point]);
  }
  return all;
}
