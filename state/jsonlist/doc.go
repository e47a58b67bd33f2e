// Package jsonlist reads lists from JSON that cannot be trusted, in memory that its length has earned.
//
// An entry of three bytes, {} and a comma, becomes a struct of a hundred bytes and more, and a compressed file of some kilobytes holds millions
// of them: what reads a list of a repository into a slice can be made to need gigabytes. So a field that is such a list is an Of
// instead of a slice: it counts its entries before it gives memory to any, and refuses more than the bytes that were read could hold of
// honest ones. What it gives memory to, it gives at once.
//
// It bounds what entries need themselves. Strings and bytes in them need no more than their JSON, and lists in them are to be an
// Of as well.
package jsonlist
