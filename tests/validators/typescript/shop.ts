// A shop that uses the generated client: every response and webhook has the document's type.
import createClient from "openapi-fetch";
import type { components, paths, webhooks } from "./api";

type Job = components["schemas"]["JobBody"];
type JobEvent = webhooks["job.succeeded"]["post"]["requestBody"]["content"]["application/json"];

const client = createClient<paths>({ baseUrl: "http://127.0.0.1:8080", headers: { "X-API-Key": "t2_..." } });

export async function submit(upload_id: string): Promise<Job> {
  const { data, error } = await client.POST("/v1/jobs", {
    body: {
      image: { upload_id },
      preset: "web",
      texture_size: 2048,
      metadata: { sku: "MUG-7" },
      webhook: { url: "https://hooks.example.com/3d", events: ["job.succeeded"] },
    },
    params: { header: { "Idempotency-Key": "order-17" } },
  });
  if (error) throw new Error(`${error.code}: ${error.detail}`);
  return data;
}

export async function modelUrl(job_id: string): Promise<string | undefined> {
  const { data } = await client.GET("/v1/jobs/{job_id}", { params: { path: { job_id }, query: { wait: 60 } } });
  return data?.status === "succeeded" ? data.artifacts["model"]?.url : undefined;
}

export async function register(url: string): Promise<string> {
  const { data } = await client.POST("/v1/webhook-endpoints", { body: { url } });
  if (!data) throw new Error("refused");
  return data.secret;
}

export function readSha256(event: JobEvent): string | null {
  return "artifacts" in event.data ? (event.data.artifacts["model"]?.sha256 ?? null) : null;
}

// @ts-expect-error there is no such preset
export const wrong: Job["preset"] = "huge";
