// Package suit builds, signs, verifies and parses SUIT manifests: the signed descriptions of what
// a device is to install and how (IETF SUIT manifest, trust domains, update management, firmware
// encryption, report and mandatory-to-implement algorithms).
package suit
