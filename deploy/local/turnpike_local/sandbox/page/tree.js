// Spans in the order of their tree: parents before children, siblings by their start.

// The visible spans with their levels, from 1. A child of a hidden span is below its nearest
// visible ancestor. A span whose ancestors are all unknown is a root.
export function inTree(spans, isVisible) {
  const byId = new Map(spans.map((span) => [span.span_id, span]));
  const children = new Map();
  for (const span of spans.filter(isVisible)) {
    const above = ancestor(span, byId, isVisible);
    if (!children.has(above)) children.set(above, []);
    children.get(above).push(span);
  }
  return below(null, 1, children);
}

function below(parent, level, children) {
  const own = (children.get(parent) ?? []).sort((a, b) => a.start_ns - b.start_ns);
  return own.flatMap((span) => [
    { span, level },
    ...below(span.span_id, level + 1, children),
  ]);
}

// Null for a root. A broken export could contain a circle, whose spans are roots.
function ancestor(span, byId, isVisible) {
  let found = null;
  const passed = new Set([span.span_id]);
  for (let at = byId.get(span.parent_id); at; at = byId.get(at.parent_id)) {
    if (passed.has(at.span_id)) return null;
    passed.add(at.span_id);
    if (found === null && isVisible(at)) found = at.span_id;
  }
  return found;
}
