// Prints, as JSON, what meshoptimizer's own decoder reads from a packed GLB of one primitive: each attribute's numbers as
// a viewer would have them once nodes and textures are transformed, in base64 of float32, and the indices of uint32.
import { readFile } from "node:fs/promises";
import { MeshoptDecoder } from "meshoptimizer/decoder";

await MeshoptDecoder.ready;
const file = await readFile(process.argv[2]);
const textBytes = file.readUInt32LE(12);
const gltf = JSON.parse(file.subarray(20, 20 + textBytes).toString());
const binary = file.subarray(28 + textBytes);

function viewOf(number) {
  const packed = gltf.bufferViews[number].extensions.EXT_meshopt_compression;
  const target = new Uint8Array(packed.count * packed.byteStride);
  const source = binary.subarray(packed.byteOffset, packed.byteOffset + packed.byteLength);
  MeshoptDecoder.decodeGltfBuffer(target, packed.count, packed.byteStride, source, packed.mode, packed.filter);
  return { bytes: target, stride: packed.byteStride };
}

const KINDS = { 5120: Int8Array, 5121: Uint8Array, 5122: Int16Array, 5123: Uint16Array, 5125: Uint32Array, 5126: Float32Array };
const LARGEST = { 5120: 127, 5121: 255, 5122: 32767, 5123: 65535 };

function numbersOf(number) {
  const { bufferView, byteOffset = 0, componentType, count, type, normalized } = gltf.accessors[number];
  const { bytes, stride } = viewOf(bufferView);
  const width = { SCALAR: 1, VEC2: 2, VEC3: 3, VEC4: 4 }[type];
  const numbers = new Float64Array(count * width);
  for (let row = 0; row < count; row++) {
    const values = new KINDS[componentType](bytes.buffer, byteOffset + row * stride, width);
    for (let one = 0; one < width; one++)
      numbers[row * width + one] = normalized ? Math.max(values[one] / LARGEST[componentType], -1) : values[one];
  }
  return numbers;
}

const primitive = gltf.meshes[0].primitives[0];
const node = gltf.nodes.find((one) => one.mesh === 0);
const { scale = [1, 1, 1], translation = [0, 0, 0] } = node;
const material = gltf.materials[primitive.material].pbrMetallicRoughness.baseColorTexture;
const placed = material.extensions?.KHR_texture_transform ?? {};
const [uvScale, uvOffset] = [placed.scale ?? [1, 1], placed.offset ?? [0, 0]];

const base64 = (typed) => Buffer.from(typed.buffer).toString("base64");
process.stdout.write(
  JSON.stringify({
    positions: base64(
      new Float32Array(numbersOf(primitive.attributes.POSITION)).map((n, i) => n * scale[i % 3] + translation[i % 3]),
    ),
    normals: base64(new Float32Array(numbersOf(primitive.attributes.NORMAL))),
    uv: base64(
      new Float32Array(numbersOf(primitive.attributes.TEXCOORD_0)).map((n, i) => n * uvScale[i % 2] + uvOffset[i % 2]),
    ),
    faces: base64(new Uint32Array(numbersOf(primitive.indices))),
  }),
);
