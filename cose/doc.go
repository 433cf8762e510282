package cose
