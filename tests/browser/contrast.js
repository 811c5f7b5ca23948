// Contrast as a reader sees it. Colours are drawn to a canvas, which knows every notation. Each
// ancestor's background and opacity is laid over the one behind it; of a gradient, each colour is
// tried.

const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
function rgba(colour) {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
  return [red, green, blue, alpha / 255];
}
const over = ([r, g, b, a], behind) => [r, g, b].map((c, i) => c * a + behind[i] * (1 - a));
function luminance(rgb) {
  const [r, g, b] = rgb.map((c) => {
    const part = c / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function ratio(one, other) {
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}
function layers(style) {
  const found = style.backgroundImage.match(/(rgba?|hsla?|color|oklab)\([^()]*\)/g);
  return found ?? [style.backgroundColor];
}
// Pairs of the colour `of(style)` of an element and the colours behind it, as a reader sees them.
function pairs(node, of) {
  const chain = [];
  for (let one = node; one; one = one.parentElement) chain.unshift(one);
  function paint(index, behind) {
    const style = getComputedStyle(chain[index]);
    const fade = (rgb) => over([...rgb, Number(style.opacity)], behind);
    return layers(style).flatMap((layer) => {
      const inside = over(rgba(layer), behind);
      const last = index === chain.length - 1;
      const drawn = last ? [[over(rgba(of(style)), inside), inside]] : paint(index + 1, inside);
      return drawn.map((pair) => pair.map(fade));
    });
  }
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  return paint(0, dark ? [18, 18, 18] : [255, 255, 255]);
}
const worst = (found) => Math.min(...found.map(([one, other]) => ratio(one, other)));

function faultsIn(root, { text, large, edge }) {
  const faults = [];
  function check(node, what, found, least) {
    const seen = Math.round(worst(found) * 100) / 100;
    const whole = `${what} ${node.id || node.className}`.trim();
    if (seen < least) faults.push({ what: whole, ratio: seen, least });
  }
  for (const node of document.querySelectorAll(`${root}, ${root} *`)) {
    if (!node.checkVisibility({ visibilityProperty: true })) continue;
    const style = getComputedStyle(node);
    const own = [...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
    if (own && rgba(style.color)[3] > 0) {
      const size = parseFloat(style.fontSize);
      const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      const what = node.textContent.trim().slice(0, 40);
      check(node, what, pairs(node, (one) => one.color), isLarge ? large : text);
    }
    if (node.matches("input:not([type=checkbox]), select")) {
      check(node, "text of", pairs(node, (one) => one.color), text);
      check(node, "border of", edges(node), edge);
    }
  }
  return faults;
}

function edges(node) {
  const lines = pairs(node, (one) => one.borderTopColor).map(([line]) => line);
  const around = pairs(node.parentElement, (one) => one.color).map(([, behind]) => behind);
  return lines.flatMap((line) => around.map((behind) => [line, behind]));
}

function ringOfFocus() {
  const node = document.activeElement;
  const style = getComputedStyle(node);
  if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) return 1;
  return worst(pairs(node.parentElement, () => style.outlineColor));
}
