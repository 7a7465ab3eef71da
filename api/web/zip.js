/** Writes a zip without compression: models and images are compressed already. */

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit += 1) rest = rest & 1 ? 0xedb88320 ^ (rest >>> 1) : rest >>> 1;
  return rest >>> 0;
});
const UTF8_NAMES = 0x0800;
const NEW_YEAR_1980 = 0x0021; // a fixed date, so that equal files give equal zips

/**
 * Write at most 65,535 files and 4 GB (APPNOTE.TXT, without ZIP64).
 * @param {{ name: string, blob: Blob }[]} files
 */
export async function zip(files) {
  /** @type {BlobPart[]} */
  const parts = [];
  /** @type {Uint8Array<ArrayBuffer>[]} */
  const directory = [];
  let offset = 0;
  for (const { name, blob } of files) {
    const path = new TextEncoder().encode(name);
    const about = [20, UTF8_NAMES, 0, 0, NEW_YEAR_1980, await crc32(blob), blob.size, blob.size, path.length, 0];
    const local = record(0x04034b50, about, "HHHHHIIIHH");
    directory.push(record(0x02014b50, [20, ...about, 0, 0, 0, 0, offset], "HHHHHHIIIHHHHHII"), path);
    parts.push(local, path, blob);
    offset += local.length + path.length + blob.size;
  }
  const size = directory.reduce((all, part) => all + part.length, 0);
  const end = record(0x06054b50, [0, 0, files.length, files.length, size, offset, 0], "HHHHIIH");
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/**
 * Pack a signature and its fields, little-endian.
 * @param {number} signature
 * @param {number[]} values
 * @param {string} format H for 16 bits, I for 32, one for each value
 */
function record(signature, values, format) {
  const view = new DataView(new ArrayBuffer(4 + [...format].reduce((all, item) => all + (item === "H" ? 2 : 4), 0)));
  view.setUint32(0, signature, true);
  let at = 4;
  values.forEach((value, index) => {
    if (format[index] === "H") view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += format[index] === "H" ? 2 : 4;
  });
  return new Uint8Array(view.buffer);
}

/** @param {Blob} blob */
async function crc32(blob) {
  let crc = 0xffffffff;
  const reader = blob.stream().getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return (crc ^ 0xffffffff) >>> 0;
    for (const byte of value) crc = /** @type {number} */ (TABLE[(crc ^ byte) & 0xff]) ^ (crc >>> 8);
  }
}
