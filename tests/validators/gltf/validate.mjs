// Prints the Khronos validator's report, as JSON, for the GLB named as the only argument.
import { readFile } from "node:fs/promises";
import { validateBytes } from "gltf-validator";

const bytes = new Uint8Array(await readFile(process.argv[2]));
const report = await validateBytes(bytes, { format: "glb", maxIssues: 100, writeTimestamp: false });
process.stdout.write(JSON.stringify({ ...report.issues, generator: report.info?.generator }));
