// Package store is the floor under a repository: objects that are put once, read, listed and deleted.
//
// A store knows nothing of what keys mean. It owes its caller one promise, on which the whole repository rests: of two
// writers of one key exactly one succeeds, and what the winner wrote is durable and whole before it is told so. Every
// driver passes the same conformance suite (storetest) against a real server.
package store
