// Package remote makes a store.Store of a provider's single tries.
//
// A driver knows how to ask its provider once (Backend). What all of them need stands here, once: retries with back-off
// and jitter, the question whose object it is when the answer to a put was lost, reads that go on where a connection
// broke, lists that go on after the last key and are refused when they are not in order, the probe of the conditional
// put before the first write, connections that give up when a peer is silent, and a limit of bytes a second.
package remote
