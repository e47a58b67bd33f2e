// Package observe looks at the world once and fills a state.Observation: servers, repositories, spools, receivers and
// the destinations of recoveries that were asked for, in parallel, each with a time limit of its own, and without
// changing anything.
//
// Whatever does not answer becomes a state.Unknown with its code, a sentence and a hint; it never becomes an empty
// value. What lives on another machine is unknown without being looked at: the same path on this machine is another
// directory. A path without REPOSITORY.json is unknown too, and the code says which kind: absent or empty, not mounted, or
// a directory of something else. Whether a repository may be created where there is none is for the plan to judge: the
// spools and slots that would show that one existed are in the same Observation.
package observe
