// Plays CartPole-v1 with policy.onnx, which `ppo2 export RUN --onnx policy.onnx` wrote. See README.md.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

const EPISODES = 3;
const STEPS = 500; // CartPole-v1 ends an episode there

// The equations and constants of Gymnasium's CartPole-v1: cart (x, its speed), pole (angle, its speed).
function begin() {
  return Array.from({ length: 4 }, () => Math.random() * 0.1 - 0.05);
}

function step([x, speed, angle, spin], action) {
  const force = action === 1 ? 10 : -10;
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const push = (force + 0.05 * spin * spin * sin) / 1.1;
  const turn = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - (0.1 * cos * cos) / 1.1));
  const shove = push - (0.05 * turn * cos) / 1.1;
  return [x + 0.02 * speed, speed + 0.02 * shove, angle + 0.02 * spin, spin + 0.02 * turn];
}

const hasFallen = ([x, , angle]) => Math.abs(x) > 2.4 || Math.abs(angle) > (12 * Math.PI) / 180;

function draw([x, , angle]) {
  const canvas = document.getElementById("screen");
  const pen = canvas.getContext("2d");
  const [middle, ground] = [canvas.width / 2 + x * 120, 220];
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = "#ddd";
  pen.fillRect(0, ground + 15, canvas.width, 2);
  pen.fillStyle = "#333";
  pen.fillRect(middle - 30, ground - 15, 60, 30);
  pen.strokeStyle = "#c60";
  pen.lineWidth = 8;
  pen.beginPath();
  pen.moveTo(middle, ground - 15);
  pen.lineTo(middle + 120 * Math.sin(angle), ground - 15 - 120 * Math.cos(angle));
  pen.stroke();
}

async function play(session, isFast) {
  let state = begin();
  for (let steps = 1; ; steps += 1) {
    const obs = new ort.Tensor("float32", Float32Array.from(state), [1, 4]);
    const { action } = await session.run({ obs }, ["action"]);
    state = step(state, Number(action.data[0])); // an int64
    draw(state);
    if (hasFallen(state) || steps === STEPS) return steps;
    if (!isFast) await new Promise(requestAnimationFrame);
  }
}

const status = document.getElementById("status");
try {
  ort.env.wasm.numThreads = 1; // more need headers that a plain file server doesn't send
  const session = await ort.InferenceSession.create("policy.onnx");
  const isFast = new URLSearchParams(location.search).has("fast"); // without waiting for the screen
  const lengths = [];
  while (lengths.length < EPISODES) {
    lengths.push(await play(session, isFast));
    status.textContent = `steps of each episode: ${lengths.join(", ")}`;
  }
  status.dataset.done = "true";
} catch (error) {
  status.textContent = `failed: ${error.message}`;
  throw error;
}
