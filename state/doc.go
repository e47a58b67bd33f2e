// Package state holds the words and facts: what was seen of servers, repositories, receivers and machines.
//
// An Observation is made by state/observe in one look and read by everything else: plan, status and, later, metrics and
// the web page. It is plain data: no handles, no secrets, no I/O; it survives JSON unchanged, so that a plan can be made
// offline from a recorded one.
//
// Unknown is a value. A part that could not be seen carries an Unknown with its reason, and nothing is concluded from
// its empty fields: a repository whose path is not mounted has no backups *here*, which is not "no backups".
package state
