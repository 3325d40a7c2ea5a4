// Loads a file's text into the text area that its picker names. Without JavaScript the text is pasted there.
for (const picker of document.querySelectorAll("input[type=file][data-into]")) {
  picker.parentElement.hidden = false;
  picker.addEventListener("change", async () => {
    const [file] = picker.files;
    if (file) document.getElementById(picker.dataset.into).value = await file.text();
  });
}
