// SPDX-License-Identifier: Apache-2.0
// imapflow, told by lines of JSON what to do; imap_library.py is the other end.
// {"call": name, "args": […]} is a method of the client; its answer is {"value": …} or {"error": …}.
// Buffers cross as {"$octets": base64}, maps as objects, sets as lists, big integers as texts.
'use strict';

const path = require('node:path');
const readline = require('node:readline');

const { ImapFlow } = require(path.join(process.argv[2], 'node_modules', 'imapflow'));

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');

function packed(value) {
    if (Buffer.isBuffer(value)) return { $octets: value.toString('base64') };
    if (value instanceof Date) return value.toISOString();
    if (value instanceof Set) return [...value].map(packed);
    if (value instanceof Map) return Object.fromEntries([...value].map(([key, each]) => [key, packed(each)]));
    if (Array.isArray(value)) return value.map(packed);
    if (typeof value === 'bigint') return value.toString();
    if (value && typeof value === 'object') {
        return Object.fromEntries(Object.entries(value).filter(([, each]) => typeof each !== 'function')
            .map(([key, each]) => [key, packed(each)]));
    }
    return value;
}

function unpacked(value) {
    if (Array.isArray(value)) return value.map(unpacked);
    if (value && typeof value === 'object') {
        if ('$octets' in value) return Buffer.from(value.$octets, 'base64');
        if ('$bigint' in value) return BigInt(value.$bigint);
        return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, unpacked(each)]));
    }
    return value;
}

const log = (level) => (entry) => say({ log: `${level} ${entry.src || ''} ${entry.msg || entry.err || ''}` });
const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'];
const client = new ImapFlow({
    ...JSON.parse(process.argv[3]),
    logger: Object.fromEntries(levels.map((level) => [level, log(level)])),
});

for (const name of ['exists', 'expunge', 'flags', 'close']) {
    client.on(name, (value) => say({ event: name, value: packed(value ?? null) }));
}
client.on('error', (error) => say({ event: 'error', value: String(error) }));

const calls = {
    // What the library knows about the connection.
    state: async () => packed({
        capabilities: [...client.capabilities.keys()],
        enabled: client.enabled,
        mailbox: client.mailbox,
        secure: client.secureConnection,
    }),
    // It ends when another method is called.
    beginIdle: async () => { client.idle().catch((error) => say({ event: 'error', value: String(error) })); },
    download: async (...args) => {
        const { meta, content } = await client.download(...args);
        const chunks = [];
        for await (const chunk of content) chunks.push(chunk);
        return packed({ meta, content: Buffer.concat(chunks) });
    },
};

async function answer({ call, args }) {
    try {
        const done = calls[call] ? await calls[call](...unpacked(args)) : await client[call](...unpacked(args));
        say({ value: packed(done ?? null) });
    } catch (error) {
        say({ error: `${error.stack} ${error.response ? JSON.stringify(packed(error.response)) : ''}` });
    }
}

client.connect().then(
    () => {
        const lines = readline.createInterface({ input: process.stdin });
        let last = Promise.resolve();
        lines.on('line', (line) => { last = last.then(() => answer(JSON.parse(line))); });
        lines.on('close', () => last.then(() => process.exit(0)));
    },
    (error) => {
        say({ error: `${error.stack} ${error.responseText || ''}` });
        process.exitCode = 1;
    },
);
