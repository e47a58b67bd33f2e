// Package sftp keeps a repository in a directory of a machine that is reached by SSH, with no program of ours there.
//
// An object is written to a temporary file below .pgkeep-tmp, fsynced (fsync@openssh.com), and given its final name by a hard
// link (hardlink@openssh.com), which the server's file system refuses when the name is taken; then the directory is fsynced,
// and once per connection every parent up to the root. A server without these extensions is refused. Host keys are checked
// against known_hosts, always.
package sftp
