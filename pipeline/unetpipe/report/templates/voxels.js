// The voxels that a page carries, and what they say about a prediction.
const COLORS = { tp: [86, 180, 233], fp: [213, 94, 0], fn: [240, 228, 66], wrong: [204, 121, 167] };

async function unpacked(packed) {
  if (packed === null) return null;
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function verdict(reference, prediction, chosen) {
  if (chosen < 0) return reference ? (prediction === reference ? "tp" : prediction ? "wrong" : "fn") : prediction ? "fp" : null;
  const held = data.members[chosen], ours = held.includes(reference), theirs = held.includes(prediction); // of a region, several
  return ours ? (theirs ? "tp" : "fn") : theirs ? "fp" : null;
}
