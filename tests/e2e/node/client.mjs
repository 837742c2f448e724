// Asks a proxy through the official SDK what test_sdk_node.py looks at; prints one JSON object.
import OpenAI from "openai";

const [baseURL] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 2 });
const messages = [{ role: "user", content: "Use get_weather for Rome" }];
const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "Tell the weather of a city",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];

async function streamed(options) {
  const said = {};
  let usage = null;
  let chunks = 0;
  for await (const chunk of await client.chat.completions.create({ model: "auto", messages, stream: true, ...options })) {
    chunks += 1;
    usage = chunk.usage ?? usage;
    for (const choice of chunk.choices) {
      said[choice.index] = (said[choice.index] ?? "") + (choice.delta.content ?? "");
    }
  }
  return { said, usage, chunks };
}

async function failure(promise) {
  try {
    await promise;
    return null;
  } catch (error) {
    return { type: error.constructor.name, status: error.status, code: error.code, param: error.param };
  }
}

const whole = await client.chat.completions.create({ model: "auto", messages, max_tokens: 20 });
const raw = await client.chat.completions.create({ model: "auto", messages, max_tokens: 5 }).withResponse();
const tool = await client.chat.completions.create({ model: "auto", messages, tools });
const runner = client.chat.completions.stream({ model: "auto", messages, tools });
const three = await client.chat.completions.create({ model: "auto", messages, n: 3, max_tokens: 15 });
const models = [];
for await (const model of client.models.list()) models.push(model.id);

console.log(
  JSON.stringify({
    whole,
    headers: Object.fromEntries(raw.response.headers),
    tool,
    streamedTool: (await runner.finalChatCompletion()).choices[0].message,
    three,
    models,
    streamed: await streamed({ max_tokens: 20 }),
    streamedThree: await streamed({ max_tokens: 15, n: 3 }),
    streamedUsage: await streamed({ max_tokens: 20, stream_options: { include_usage: true } }),
    wrong: await failure(client.chat.completions.create({ model: "auto", messages, n: 0 })),
    unknown: await failure(client.chat.completions.create({ model: "gpt-99", messages })),
    poor: await failure(
      client.chat.completions.create({ model: "auto", messages }, { headers: { "x-farthing-budget-usd": "0.0000001" } }),
    ),
    broken: await failure(streamed({ model: "dear", metadata: { simulate: "reset=4" } })),
  }),
);
