// The `ws` library on node's http server, with the heartbeat and the broadcast of its README.

import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { WebSocket, WebSocketServer } from "ws";

const { values } = parseArgs({ options: { port: { type: "string" }, ping: { type: "string", default: "20" } } });
const BACKLOG = 4096;
const KEPT = 50;
const PAGE = "<!doctype html><title>chat</title><p>A peer of chatserver. Speak chat.v1 at /ws.\n";
const USER = { id: "g_000000000000000", name: "Guest" };
const HELLO = JSON.stringify({ type: "hello", protocol: "chat.v1", session: "peer", user: USER, limits: {} });

const rooms = new Map();

function roomOf(name) {
  let room = rooms.get(name);
  if (!room) rooms.set(name, (room = { name, offset: 0, latest: [], members: new Set(), waiting: new Set() }));
  return room;
}

function page(room, after) {
  const messages = room.latest.filter((message) => after === null || message.offset > after);
  return { room: room.name, cursor: `peer-${room.offset}`, recovered: true, messages };
}

function say(name, text) {
  const room = roomOf(name);
  room.offset += 1;
  const time = new Date().toISOString();
  const receipt = { room: name, offset: room.offset, cursor: `peer-${room.offset}`, time };
  const message = { ...receipt, user: USER, text };
  room.latest.push(message);
  if (room.latest.length > KEPT) room.latest.shift();
  const tell = () => {
    const event = JSON.stringify({ type: "message", ...message });
    for (const member of room.members) if (member.readyState === WebSocket.OPEN) member.send(event);
    for (const wake of room.waiting) wake();
  };
  return { receipt, tell };
}

function attend(client, text) {
  const said = JSON.parse(text);
  if (said.type === "publish") {
    const { receipt, tell } = say(said.room, said.text);
    client.send(JSON.stringify({ type: "ack", id: said.id, ...receipt }));
    tell();
  } else if (said.type === "join") {
    const room = roomOf(said.room);
    room.members.add(client);
    client.rooms.push(room);
    const members = room.members.size;
    client.send(JSON.stringify({ type: "joined", id: said.id, ...page(room, null), members }));
  } else {
    client.send(JSON.stringify({ type: "error", id: said.id, code: "unknown_type", message: "join or publish" }));
  }
}

function answer(response, status, body) {
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
}

function poll(room, query, response) {
  const after = query.has("after") ? Number(query.get("after").split("-").pop()) : null;
  const wait = Number(query.get("wait") ?? 0);
  if (after !== room.offset || !wait) {
    answer(response, 200, page(room, after));
    return;
  }
  const wake = () => {
    clearTimeout(timer);
    room.waiting.delete(wake);
    answer(response, 200, page(room, after));
  };
  const timer = setTimeout(wake, wait * 1000);
  response.on("close", () => {
    clearTimeout(timer);
    room.waiting.delete(wake);
  });
  room.waiting.add(wake);
}

async function publish(name, request, response) {
  let body = "";
  for await (const chunk of request.setEncoding("utf8")) body += chunk;
  const isJson = request.headers["content-type"]?.startsWith("application/json");
  const { receipt, tell } = say(name, isJson ? JSON.parse(body).text : body);
  answer(response, 201, receipt);
  tell();
}

const server = createServer((request, response) => {
  const url = new URL(request.url, "http://peer");
  const name = url.pathname.match(/^\/rooms\/([^/]+)\/messages$/)?.[1];
  if (name && request.method === "POST") publish(name, request, response).catch(() => response.destroy());
  else if (name) poll(roomOf(name), url.searchParams, response);
  else response.writeHead(200, { "Content-Type": "text/html" }).end(PAGE);
});

const sockets = new WebSocketServer({ server, path: "/ws", perMessageDeflate: false });

sockets.on("connection", (client) => {
  client.isAlive = true;
  client.rooms = [];
  client.on("error", () => client.terminate());
  client.on("pong", () => (client.isAlive = true));
  client.on("message", (data) => attend(client, data));
  client.on("close", () => client.rooms.forEach((room) => room.members.delete(client)));
  client.send(HELLO);
});

setInterval(() => {
  for (const client of sockets.clients) {
    if (!client.isAlive) {
      client.terminate();
      continue;
    }
    client.isAlive = false;
    client.ping();
  }
}, Number(values.ping) * 1000);

server.listen(Number(values.port), "127.0.0.1", BACKLOG);
